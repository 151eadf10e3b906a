//! The environments of a history: which are equal in all that counts, what differs between two,
//! and which kind of hosts they belong to.

use super::series::TrendError;
use super::{Entry, History};
use crate::compare::environment::{differences_between, signature};
use crate::compare::fields::Fields;
use crate::compare::{Axis, Class, Difference};
use std::collections::{BTreeSet, HashMap};

/// The environments of a history, and which of them are equal in all that counts.
pub(super) struct Surroundings<'a> {
    history: &'a History,
    axes: Vec<Axis>,
    /// For each class one result that stands for it.
    classes: Vec<&'a Entry>,
    /// Classes by signature, so that only likely ones are compared.
    likely: HashMap<(u64, u64), Vec<usize>>,
    known: HashMap<(&'a str, &'a Fields), usize>,
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(history: &'a History, axes: &[Axis]) -> Result<Self, TrendError> {
        for axis in axes {
            let environments = history.environments.values().flat_map(Fields::keys);
            let programs = history
                .entries
                .iter()
                .flat_map(|entry| entry.program.keys());
            let facts = history.entries.iter().flat_map(|entry| entry.facts.keys());
            if !environments
                .chain(programs)
                .chain(facts)
                .any(|field| axis.covers(field))
            {
                let axis = axis.to_string();
                return Err(TrendError::NoSuchAxis { axis });
            }
        }
        let commit = "program.commit".parse().ok();
        Ok(Self {
            history,
            axes: axes.iter().cloned().chain(commit).collect(),
            classes: Vec::new(),
            likely: HashMap::new(),
            known: HashMap::new(),
        })
    }

    /// What differs between the environments and the programs of two results.
    pub(super) fn differences(&self, a: &Entry, b: &Entry) -> Vec<Difference> {
        let mut found = Vec::new();
        if a.environment != b.environment {
            let [a, b] = [a, b].map(|entry| self.fields(entry));
            found = differences_between(a, b, &self.axes);
        }
        if a.program != b.program {
            found.extend(differences_between(&a.program, &b.program, &self.axes));
        }
        found
    }

    /// The fields under study.
    pub(super) fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// A result that stands for a class.
    pub(super) fn of_class(&self, class: usize) -> &'a Entry {
        self.classes[class]
    }

    fn fields(&self, entry: &Entry) -> &'a Fields {
        // Results whose environment no line describes are not kept.
        &self.history.environments[&entry.environment]
    }

    /// The class of an environment: two of the same class differ in nothing that counts.
    pub(super) fn class(&mut self, entry: &'a Entry) -> usize {
        let key = (entry.environment.as_str(), &entry.program);
        if let Some(class) = self.known.get(&key) {
            return *class;
        }
        let of_program = signature(&entry.program, &self.axes);
        let signature = (signature(self.fields(entry), &self.axes), of_program);
        let same = |class: &usize| {
            let differences = self.differences(self.classes[*class], entry);
            !differences.iter().any(counts)
        };
        let likely = self.likely.get(&signature);
        let class = likely.and_then(|likely| likely.iter().copied().find(same));
        let class = class.unwrap_or(self.classes.len());
        if class == self.classes.len() {
            self.classes.push(entry);
            self.likely.entry(signature).or_default().push(class);
        }
        self.known.insert(key, class);
        class
    }

    /// How many hosts of which kind. What is under study does not tell kinds apart.
    pub(super) fn kind_of_hosts(&self, entry: &Entry) -> String {
        let fields = self.fields(entry);
        let known = |field: &str| {
            let studied = self.axes.iter().any(|axis| axis.covers(field));
            let value = fields.get(field).filter(|_| !studied)?;
            (!value.starts_with("unavailable: ")).then_some(value.as_str())
        };
        let processor = || {
            let cpus = known("cpu.logical_cpus").map(|cpus| format!("{cpus} CPUs"));
            let model = known("cpu.model").map(str::to_owned);
            let words: Vec<String> = model.into_iter().chain(cpus).collect();
            words.join(", ")
        };
        let instance_type = "cloud.instance_type";
        let studied = self.axes.iter().any(|axis| axis.covers(instance_type));
        let kind = match known(instance_type) {
            Some(kind) => kind.to_owned(),
            // The processor follows from the instance type.
            None if studied => String::new(),
            None => processor(),
        };
        match (entry.hosts.len(), kind.as_str()) {
            (1, "") => "1 host".to_owned(),
            (1, kind) => kind.to_owned(),
            (hosts, "") => format!("{hosts} hosts"),
            (hosts, kind) => format!("{hosts} hosts, {kind}"),
        }
    }
    /// What tells the environments of these classes apart, for each in the same order.
    pub(super) fn telling(&self, classes: &[usize]) -> Vec<Vec<String>> {
        let first = self.classes[classes[0]];
        let mut fields = BTreeSet::new();
        for class in classes {
            let differences = self.differences(first, self.classes[*class]);
            let counted = differences.into_iter().filter(counts);
            fields.extend(counted.map(|difference| difference.field));
        }
        let value = |entry: &Entry, field: &String| {
            let value = self.fields(entry).get(field);
            let value = value.or_else(|| entry.program.get(field));
            format!("{field}: {}", value.map_or("absent", String::as_str))
        };
        let of_class = |class: &usize| {
            let entry = self.classes[*class];
            fields.iter().map(|field| value(entry, field)).collect()
        };
        classes.iter().map(of_class).collect()
    }
}

/// Whether a difference makes two environments unequal.
pub(super) fn counts(difference: &Difference) -> bool {
    difference.class == Class::Confounder
}

//! Fields that this build does not know: a newer build, or a user, wrote them, and they survive a
//! report's way through this one.

use serde_ignored::Path;
use serde_json::Value;

/// One step into a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A field.
    Key(String),
    /// An item of a list.
    Index(usize),
}

impl Step {
    /// The steps of a path, outermost first.
    pub(super) fn of(path: &Path<'_>) -> Vec<Self> {
        let (parent, step) = match path {
            Path::Root => return Vec::new(),
            Path::Seq { parent, index } => (parent, Some(Self::Index(*index))),
            Path::Map { parent, key } => (parent, Some(Self::Key(key.clone()))),
            Path::Some { parent }
            | Path::NewtypeStruct { parent }
            | Path::NewtypeVariant { parent } => (parent, None),
        };
        let mut steps = Self::of(parent);
        steps.extend(step);
        steps
    }

    fn child<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Key(key) => value.get(key),
            Self::Index(index) => value.get(index),
        }
    }

    fn child_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        match self {
            Self::Key(key) => value.get_mut(key),
            Self::Index(index) => value.get_mut(index),
        }
    }
}

/// Unknown fields with their places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unknown(Vec<(Vec<Step>, Value)>);

impl Unknown {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths as people write them: `hosts[0].cpu.colour`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.0.iter().map(|(steps, _)| in_words(steps)).collect()
    }

    /// Takes what stands at these places.
    pub(super) fn taken(places: Vec<Vec<Step>>, from: &Value) -> Self {
        let found = |steps: Vec<Step>| {
            let value = steps.iter().try_fold(from, |value, step| step.child(value));
            value.cloned().map(|value| (steps, value))
        };
        Self(places.into_iter().filter_map(found).collect())
    }

    /// Puts every field back into the object it was taken from. One whose object has gone since
    /// goes with it.
    pub(super) fn put_back(&self, whole: &mut Value) {
        for (steps, value) in &self.0 {
            let Some((Step::Key(key), parents)) = steps.split_last() else {
                continue;
            };
            let parent = parents
                .iter()
                .try_fold(&mut *whole, |value, step| step.child_mut(value));
            if let Some(Value::Object(fields)) = parent {
                fields.insert(key.clone(), value.clone());
            }
        }
    }
}

fn in_words(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

//! Where the instances of a run stand in EC2's network, from a file with what `aws ec2
//! describe-instance-topology` printed: for each instance its network nodes, top down, three on
//! most instance types and four on some. Two instances are the closer the more of them they share;
//! a shared last one is the closest.
//!
//! A node of the run is found in the file by its instance id, if its fingerprint has one, else by
//! its host name up to the first dot: EC2's resource-based names begin with the instance id.

use crate::host::Host;
use crate::model::Fact;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    instance_id: String,
    network_nodes: Vec<String>,
}

/// The network nodes above each instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    paths: BTreeMap<String, Vec<String>>,
}

impl Topology {
    /// Reads the command's output in JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text).map_err(|error| {
            format!(
                "it is not what `aws ec2 describe-instance-topology --output json` prints: {error}"
            )
        })?;
        let mut paths = BTreeMap::new();
        for Instance {
            instance_id,
            network_nodes,
        } in file.instances
        {
            if network_nodes.is_empty() {
                return Err(format!("it has no NetworkNodes for {instance_id}"));
            }
            if paths.insert(instance_id.clone(), network_nodes).is_some() {
                return Err(format!("it has {instance_id} twice"));
            }
        }
        Ok(Self { paths })
    }

    /// The network nodes above each host, in the order of the hosts.
    ///
    /// # Errors
    /// The first host that is not in the file.
    pub fn paths_of(&self, hosts: &[Host]) -> Result<Vec<Vec<String>>, String> {
        let find = |host: &Host| {
            let id = instance_id(host);
            self.paths.get(&id).cloned().ok_or_else(|| {
                format!(
                    "it lacks {id}, where this run has ranks ({}; the file has {} instances): \
                     describe the instances of this run",
                    host.name,
                    self.paths.len()
                )
            })
        };
        hosts.iter().map(find).collect()
    }
}

fn instance_id(host: &Host) -> String {
    let known = match &host.cloud {
        Fact::Known(cloud) => cloud.instance_id.known().cloned(),
        Fact::Unavailable { .. } => None,
    };
    let name = || host.name.split('.').next().unwrap_or_default().to_owned();
    known.unwrap_or_else(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::placement::shared_levels;

    const PRINTED: &str = r#"{"Instances": [
        {"InstanceId": "i-1", "InstanceType": "hpc7g.16xlarge", "GroupName": "g",
         "NetworkNodes": ["nn-1", "nn-2", "nn-3"], "AvailabilityZone": "us-east-1a", "ZoneId": "use1-az1"},
        {"InstanceId": "i-2", "InstanceType": "hpc7g.16xlarge", "GroupName": "g",
         "NetworkNodes": ["nn-1", "nn-2", "nn-9"], "AvailabilityZone": "us-east-1a", "ZoneId": "use1-az1"}
    ]}"#;

    fn named(name: &str) -> Host {
        Host::unknown(name, "made for this test")
    }

    #[test]
    fn hosts_are_found_by_the_instance_id_in_their_name() {
        let topology = Topology::parse(PRINTED).expect("as printed");
        let hosts = [named("i-2.ec2.internal"), named("i-1")];
        let paths = topology.paths_of(&hosts).expect("both are there");
        assert_eq!(paths[0][2], "nn-9");
        assert_eq!(shared_levels(&paths[0], &paths[1]), 2);
        assert_eq!(shared_levels(&paths[0], &paths[0]), 3);
    }

    #[test]
    fn a_file_that_does_not_fit_is_refused_with_the_reason() {
        let topology = Topology::parse(PRINTED).expect("as printed");
        let missing = topology.paths_of(&[named("i-3")]).expect_err("no such one");
        assert!(missing.starts_with("it lacks i-3"), "{missing}");
        let wrong = |text: &str| Topology::parse(text).expect_err(text);
        assert!(wrong("{}").contains("missing field `Instances`"));
        assert!(wrong("nonsense").contains("describe-instance-topology"));
        let no_nodes = r#"{"Instances": [{"InstanceId": "i-1", "NetworkNodes": []}]}"#;
        assert!(wrong(no_nodes).contains("no NetworkNodes for i-1"));
        let twice = PRINTED.replace("i-2", "i-1");
        assert!(wrong(&twice).contains("i-1 twice"));
    }
}

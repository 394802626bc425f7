//! The first difference between a log and a manifest, by the event's name.

use std::fmt;

use crate::{log::Event, manifest::ReferenceManifest, pcr::PcrIndex};

/// First difference between a log and a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Divergence {
    /// An event has another digest.
    Differs {
        /// Its name.
        event: String,
        /// `bank:digest`, as predicted.
        expected: String,
        /// `bank:digest`, as measured.
        measured: String,
    },
    /// Another event stands where one is expected.
    Unexpected {
        /// The expected one, empty at the end of the manifest.
        expected: String,
        /// The one in the log.
        measured: String,
    },
    /// The log ends too early.
    Missing {
        /// The first that is missing.
        event: String,
    },
}

impl Divergence {
    /// The service that it is about, from the event's name.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        let name = match self {
            Self::Differs { event, .. } | Self::Missing { event } => event,
            Self::Unexpected { measured, .. } => measured,
        };
        name.strip_prefix("service:")?.split(' ').next()
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differs { event, expected, measured } => {
                write!(
                    f,
                    "HP-MB-004 {event}: digest differs from manifest (expected {expected}, measured {measured}); boot the other slot or re-flash"
                )
            }
            Self::Unexpected { expected, measured } if expected.is_empty() => {
                write!(f, "HP-MB-005 {measured}: measured but not in the manifest; re-flash")
            }
            Self::Unexpected { expected, measured } => {
                write!(f, "HP-MB-005 {measured}: measured where {expected} is expected; re-flash")
            }
            Self::Missing { event } => {
                write!(f, "HP-MB-006 {event}: expected but not measured; re-flash")
            }
        }
    }
}

/// Compares the PCR 13 events of `log` with the manifest, in order; `None`: no difference.
///
/// Every digest of an event has to be the predicted one: a bank that the manifest does not know
/// and an event without any digest differ. Whether the log is what the TPM holds is another
/// question, answered by [`crate::log::replay`].
#[must_use]
pub fn first_divergence(manifest: &ReferenceManifest, log: &[Event]) -> Option<Divergence> {
    let mut measured = log.iter().filter(|event| event.pcr == PcrIndex::SERVICES);
    for expected in &manifest.events {
        let Some(event) = measured.next() else {
            return Some(Divergence::Missing { event: expected.name.clone() });
        };
        if event.name != expected.name {
            return Some(Divergence::Unexpected {
                expected: expected.name.clone(),
                measured: event.name.clone(),
            });
        }
        if event.digests.is_empty() {
            return Some(Divergence::Differs {
                event: event.name.clone(),
                expected: "a digest".into(),
                measured: "nothing".into(),
            });
        }
        for digest in &event.digests {
            let predicted = expected.digests.get(digest.alg().name());
            if predicted.is_none_or(|predicted| !digest.is_hex(predicted)) {
                let short: String =
                    predicted.map_or("nothing", String::as_str).chars().take(8).collect();
                return Some(Divergence::Differs {
                    event: event.name.clone(),
                    expected: format!("{}:{short}", digest.alg()),
                    measured: format!("{}:{}", digest.alg(), digest.short()),
                });
            }
        }
    }
    measured.next().map(|event| Divergence::Unexpected {
        expected: String::new(),
        measured: event.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{closure::ServiceList, digest::HashAlg, manifest};

    fn setup() -> (ReferenceManifest, Vec<Event>) {
        let list = ServiceList::parse(
            r#"
            [[service]]
            name = "ledger"
            exec = "/l"
            uid = 801
            gid = 801
            seccomp = ["base"]
            network = "none"
            memory_mib_max = 1
            tasks_max = 1
            [[service]]
            name = "sensor"
            exec = "/s"
            files = ["/bpf"]
            uid = 802
            gid = 802
            seccomp = ["base"]
            network = "host"
            memory_mib_max = 1
            tasks_max = 1
            "#,
        )
        .unwrap();
        let read = |path: &str| Ok(path.as_bytes().to_vec());
        let manifest = ReferenceManifest::predict("0", 1, &list, read).unwrap();
        let banks = [HashAlg::Sha256, HashAlg::Sha384];
        let mut log = Vec::new();
        for spec in &list.service {
            for path in spec.closure_files() {
                log.push(manifest::event(&spec.file_event(path), path.as_bytes(), &banks));
            }
            log.push(manifest::event(&spec.spec_event(), &spec.canonical(), &banks));
        }
        (manifest, log)
    }

    #[test]
    fn same_image_has_no_divergence_and_the_predicted_pcr() {
        let (manifest, log) = setup();
        assert_eq!(first_divergence(&manifest, &log), None);
        let pcrs = crate::log::replay(&log);
        for bank in [HashAlg::Sha256, HashAlg::Sha384] {
            assert_eq!(
                pcrs.get(bank, PcrIndex::SERVICES).cloned(),
                manifest.pcr(bank, PcrIndex::SERVICES)
            );
        }
        assert_eq!(ReferenceManifest::parse(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn one_byte_names_the_service() {
        let (manifest, mut log) = setup();
        log[3] = manifest::event(&log[3].name, b"/bpg", &[HashAlg::Sha256, HashAlg::Sha384]);
        let divergence = first_divergence(&manifest, &log).unwrap();
        assert_eq!(divergence.service(), Some("sensor"));
        assert!(divergence.to_string().starts_with("HP-MB-004 service:sensor file:/bpf"));
    }

    #[test]
    fn a_bank_that_the_manifest_lacks_and_an_event_without_digests_differ() {
        let (mut manifest, mut log) = setup();
        for event in &mut manifest.events {
            event.digests.remove("sha384");
        }
        let divergence = first_divergence(&manifest, &log).unwrap();
        assert!(divergence.to_string().contains("(expected sha384:nothing, measured sha384:"));
        for event in &mut log {
            event.digests.truncate(1);
        }
        assert_eq!(first_divergence(&manifest, &log), None);
        log[1].digests.clear();
        let divergence = first_divergence(&manifest, &log).unwrap();
        assert!(divergence.to_string().starts_with("HP-MB-004 service:ledger spec"));
        manifest.events.clear();
        assert!(matches!(first_divergence(&manifest, &log), Some(Divergence::Unexpected { .. })));
    }

    #[test]
    fn missing_extra_and_swapped_events() {
        let (manifest, log) = setup();
        assert!(matches!(first_divergence(&manifest, &log[..4]), Some(Divergence::Missing { .. })));
        let mut longer = log.clone();
        longer.push(log[0].clone());
        assert!(matches!(
            first_divergence(&manifest, &longer),
            Some(Divergence::Unexpected { .. })
        ));
        let mut swapped = log;
        swapped.swap(0, 2);
        assert!(matches!(
            first_divergence(&manifest, &swapped),
            Some(Divergence::Unexpected { .. })
        ));
    }
}

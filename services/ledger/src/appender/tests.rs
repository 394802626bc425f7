//! What the core promises, one test per promise.

use hookprobe_wire::{
    NodeId, SENSOR_UID, Severity,
    event::{Alert, ServiceChange},
};
use proptest::prelude::*;

use super::*;
use crate::chain::Epoch;

const S: u64 = 1_000_000_000;

fn lane() -> Lane {
    Lane {
        epoch: Epoch { number: 1, node: NodeId::new([9; 32]), first: Seq(0) },
        tip: Tip::empty(),
    }
}

fn appender() -> Appender {
    Appender::new(lane(), [])
}

fn alert(summary: &str) -> Event {
    Event::Alert(Alert {
        detector: "scan.trw".into(),
        severity: Severity::Warn,
        source: [10, 0, 0, 7].into(),
        interface: "eth0".into(),
        summary: summary.into(),
        evidence: Vec::new(),
        first_ns: 1,
        decided_ns: 2,
        drill: false,
        reference: None,
    })
}

fn id(number: u64) -> RequestId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    RequestId(bytes.into())
}

fn append(client: u64, number: u64) -> Input {
    Input::Append(Append {
        client: Client(client),
        trusted: false,
        uid: SENSOR_UID,
        id: id(number),
        event: alert("x"),
        salt: [1; SALT_BYTES],
    })
}

fn step(core: &mut Appender, now: u64, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    core.handle(now, input, &mut out);
    out
}

fn reject_code(effects: &[Effect]) -> &str {
    match effects {
        [Effect::Reply { reply: Reply::Rejected { code, .. }, .. }] => code,
        other => panic!("expected one rejection, got {other:?}"),
    }
}

fn batch_len(effects: &[Effect]) -> usize {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Commit(batch) => Some(batch.drafts.len()),
            _ => None,
        })
        .unwrap_or(0)
}

#[test]
fn nothing_is_answered_before_the_commit_and_what_queued_meanwhile_is_one_batch() {
    let mut core = appender();
    assert!(step(&mut core, S, append(1, 1)).is_empty());
    assert_eq!(batch_len(&step(&mut core, S, Input::Tick)), 1);
    for number in 2..=65 {
        assert!(step(&mut core, S, append(number, number)).is_empty());
        assert!(step(&mut core, S, Input::Tick).is_empty());
    }
    let out = step(&mut core, S, Input::Committed);
    assert!(matches!(
        out.first(),
        Some(Effect::Reply { client: Client(1), reply: Reply::Appended { seq: Seq(0), .. } })
    ));
    assert!(matches!(out.get(1), Some(Effect::Published(Seq(1)))));
    assert_eq!(batch_len(&out), 64);
}

#[test]
fn policy_and_size_are_decided_before_anything_else() {
    let mut core = appender();
    let from = |uid, event| {
        Input::Append(Append {
            client: Client(1),
            trusted: false,
            uid,
            id: id(1),
            event,
            salt: [0; SALT_BYTES],
        })
    };
    let out = step(&mut core, S, from(0, alert("x")));
    assert_eq!(reject_code(&out), code::NOT_ALLOWED);
    let service = Event::Service(ServiceChange {
        service: "x".into(),
        change: "started".into(),
        detail: String::new(),
    });
    let out = step(&mut core, S, from(SENSOR_UID, service));
    assert_eq!(reject_code(&out), code::NOT_ALLOWED);
    let out = step(&mut core, S, from(SENSOR_UID, alert(&"x".repeat(PAYLOAD_BYTES_MAX))));
    assert_eq!(reject_code(&out), code::PAYLOAD_TOO_LARGE);
    assert!(core.is_idle());
    assert_eq!(core.counters().refused, 3);
}

#[test]
fn the_same_id_is_one_block_queued_in_flight_and_afterwards() {
    let mut core = appender();
    step(&mut core, S, append(1, 7));
    step(&mut core, S, append(2, 7));
    assert_eq!(batch_len(&step(&mut core, S, Input::Tick)), 1);
    step(&mut core, S, append(3, 7));
    let out = step(&mut core, S, Input::Committed);
    let places: Vec<_> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reply { client, reply: Reply::Appended { seq, .. } } => Some((client.0, seq.0)),
            _ => None,
        })
        .collect();
    assert_eq!(places, [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(batch_len(&out), 0);
    let out = step(&mut core, S, append(4, 7));
    assert!(matches!(
        out.as_slice(),
        [Effect::Reply { reply: Reply::Appended { seq: Seq(0), .. }, .. }]
    ));
}

#[test]
fn a_full_queue_rejects_and_counts() {
    let mut core = appender().with_queue_max(2);
    step(&mut core, S, append(1, 1));
    step(&mut core, S, append(2, 2));
    let out = step(&mut core, S, append(3, 3));
    assert_eq!(reject_code(&out), code::QUEUE_FULL);
    assert_eq!(core.head(0, false).rejected, 1);
}

#[test]
fn a_full_disk_rejects_all_and_heals_by_itself() {
    let mut core = appender();
    step(&mut core, S, append(1, 1));
    step(&mut core, S, Input::Tick);
    step(&mut core, S, append(2, 2));
    let out = step(&mut core, S, Input::NotWritten(Cause::Full));
    assert_eq!(out.len(), 2);
    assert_eq!(core.tip().next(), Seq(0));
    let out = step(&mut core, S + 1, append(3, 3));
    assert_eq!(reject_code(&out), code::DISK_FULL);
    step(&mut core, 2 * S, append(3, 1));
    assert_eq!(batch_len(&step(&mut core, 2 * S, Input::Tick)), 1);
    step(&mut core, 2 * S, Input::Committed);
    assert_eq!((core.tip().next(), core.trouble()), (Seq(1), None));
}

#[test]
fn an_open_fate_is_never_called_not_written() {
    let mut core = appender();
    step(&mut core, S, append(1, 1));
    step(&mut core, S, Input::Tick);
    assert!(step(&mut core, S, Input::Down(Cause::Error)).is_empty());
    // Same id again: waits for the truth; another id: rejected.
    assert!(step(&mut core, S, append(2, 1)).is_empty());
    let out = step(&mut core, S, append(3, 2));
    assert_eq!(reject_code(&out), code::DISK_ERROR);
    assert!(step(&mut core, S + 1, Input::Tick).is_empty());
    assert!(matches!(step(&mut core, 2 * S, Input::Tick).as_slice(), [Effect::Recover]));
    assert!(step(&mut core, 2 * S, Input::Tick).is_empty());
    let out = step(&mut core, 2 * S, Input::Committed);
    let answered = out
        .iter()
        .filter(|effect| {
            matches!(effect, Effect::Reply { reply: Reply::Appended { seq: Seq(0), .. }, .. })
        })
        .count();
    assert_eq!(answered, 2);
}

#[test]
fn batches_are_bounded() {
    let mut core = appender();
    for number in 0..300 {
        step(&mut core, S, append(number, number));
    }
    assert_eq!(batch_len(&step(&mut core, S, Input::Tick)), BATCH_BLOCKS_MAX);
}

#[test]
fn request_ids_are_forgotten_oldest_first() {
    let mut table = RequestTable::default();
    for number in 0..=REQUESTS_MAX {
        table.insert(id(number), Seq(number), Hash::zero());
    }
    assert_eq!(table.get(&id(0)), None);
    assert_eq!(table.get(&id(1)), Some((Seq(1), Hash::zero())));
    assert_eq!(table.places.len(), table.order.len());
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    Tick,
    Committed,
    Full,
    Down,
}

proptest! {
    /// Whatever happens: every append is answered at most once, with one place per id, places are
    /// dense, and when all is quiet nobody waits.
    #[test]
    fn exactly_one_answer_and_one_place(steps in proptest::collection::vec(
        prop_oneof![
            4 => (0u64..40).prop_map(Step::Append),
            2 => Just(Step::Tick),
            2 => Just(Step::Committed),
            1 => Just(Step::Full),
            1 => Just(Step::Down),
        ], 1..200)) {
        let mut core = appender();
        let (mut now, mut client, mut busy, mut down) = (S, 0, false, false);
        let mut open: HashSet<Client> = HashSet::new();
        let mut places: HashMap<RequestId, Seq> = HashMap::new();
        let mut published = 0;
        let quiet = [Step::Tick, Step::Committed].into_iter().cycle().take(40);
        for step in steps.into_iter().chain(quiet) {
            now += S / 3;
            let input = match step {
                Step::Append(number) => {
                    client += 1;
                    open.insert(Client(client));
                    append(client, number)
                }
                Step::Tick => Input::Tick,
                _ if !busy => continue,
                Step::Committed => { busy = false; down = false; Input::Committed }
                Step::Full => { busy = false; down = false; Input::NotWritten(Cause::Full) }
                Step::Down => { busy = false; down = true; Input::Down(Cause::Error) }
            };
            let mut out = Vec::new();
            core.handle(now, input, &mut out);
            for effect in out {
                match effect {
                    Effect::Reply { client, reply } => {
                        prop_assert!(open.remove(&client), "answered twice");
                        if let Reply::Appended { id, seq, .. } = reply {
                            prop_assert_eq!(*places.entry(id).or_insert(seq), seq);
                        }
                    }
                    Effect::Commit(batch) => {
                        prop_assert!(!busy && !down);
                        busy = true;
                        prop_assert_eq!(batch.drafts[0].header.seq.0, published);
                    }
                    Effect::Recover => { prop_assert!(down && !busy); busy = true; }
                    Effect::Published(next) => published = next.0,
                }
            }
        }
        prop_assert!(open.is_empty(), "{} clients still wait", open.len());
        let mut seqs: Vec<u64> = places.values().map(|seq| seq.0).collect();
        seqs.sort_unstable();
        prop_assert_eq!(seqs, (0..published).collect::<Vec<_>>());
    }
}

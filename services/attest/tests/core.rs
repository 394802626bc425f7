//! The core by itself: who gets what, what a silent or a reset TPM means, what a flood does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure in a test's helpers is a failed test"
)]

use hookprobe_attest::{
    code::Fault,
    core::{
        BURST, CONTROL_MS, Caller, ClientId, Core, Effect, HEAD_MS_MAX, Input, Now, OWN_MS,
        PER_SOURCE_MAX, SEED_MS_MAX, START_MS_MAX, Seen, TPM_MS_MAX,
    },
    identity::BootPin,
    job::{Appraisal, Attested, Condition, Done, Enrolled, Job, Started, Ticket, Want},
};
use hookprobe_evidence::{
    bundle::EpochQuote,
    quote::{Binding, ClockInfo, Quote},
};
use hookprobe_wire::{
    CONSOLE_UID, Event, Hash, LEDGER_UID, NodeId, SENSOR_UID,
    attest::{KeyOrigin, Reply, Request, Status, Verdict},
    ledger::Head,
};
use zeroize::Zeroizing;

const BOOT_ID: &str = "00112233445566778899aabbccddeeff";
const LEDGER_PID: u32 = 77;

fn clock(reset_count: u32) -> ClockInfo {
    ClockInfo { clock_ms: 5, reset_count, restart_count: 0, safe: true }
}

fn enrolled() -> Started {
    let pin = BootPin { boot_id: BOOT_ID.into(), epoch: 7, reset_count: 3, restart_count: 0 };
    Started {
        condition: Condition::Enrolled(Enrolled {
            ak_name: "000bff".into(),
            ek: "no certificate".into(),
            pin,
            clock: clock(3),
            change: Some(("enrolled", "the box got an identity".into())),
            level: ("T".into(), "software".into()),
            commands: 30,
        }),
        origin: KeyOrigin::Tpm,
        node: Some(NodeId::new([1; 32])),
        recovery: Some(Zeroizing::new("words".into())),
        diagnostics: Vec::new(),
        log: Vec::new(),
    }
}

fn attested(binding: Binding, reset_count: u32, verdict: Option<Verdict>) -> Done {
    let quote = Quote { attest: vec![1].into(), signature: vec![2].into() };
    Done::Quoted(Ok(Box::new(Attested {
        evidence: vec![9; 100],
        quote: EpochQuote { quote, binding },
        clock: clock(reset_count),
        appraisal: verdict.map(|verdict| Appraisal {
            verdict,
            divergence: "why".into(),
            level: ("T".into(), "software".into()),
            pcrs: Vec::new(),
            log: Vec::new(),
        }),
        us: 4000,
        retries: 1,
    })))
}

fn head(node: u8) -> Head {
    Head {
        node: NodeId::new([node; 32]),
        epoch: 7,
        length: 2,
        hash: Hash::new([8; 32]),
        root: Hash::new([9; 32]),
        verified_at_start: 0,
        volatile: false,
        queue: 0,
        rejected: 0,
        key: Some(KeyOrigin::Tpm),
    }
}

fn ledger_seen(pid: u32, matches: bool) -> Vec<Seen> {
    vec![Seen { name: "ledger".into(), pid, restarts: 0, matches }]
}

fn process(uid: u32, pid: u32) -> Caller {
    Caller::Process { uid, pid: Some(pid) }
}

fn challenge(bytes: usize) -> Request {
    Request::Evidence { nonce: vec![5; bytes].into(), exporter: None, full: true }
}

/// A core with its clock; answers of the TPM are given by the test.
struct Bench {
    core: Core,
    ms: u64,
    out: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        let mut out = Vec::new();
        let core = Core::new(Now::default(), BOOT_ID, &mut out);
        assert!(matches!(out.first(), Some(Effect::Tpm(Ticket(0), Job::Start))));
        Self { core, ms: 0, out: Vec::new() }
    }

    fn running() -> Self {
        let mut bench = Self::new();
        bench.feed(Input::Done(Ticket(0), Done::Started(Box::new(enrolled()))));
        assert!(bench.out.contains(&Effect::Ready));
        bench
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.ms, real_s: 1_700_000_000 + self.ms / 1000 }
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        self.core.handle(now, input, &mut self.out);
    }

    fn after(&mut self, ms: u64) {
        self.ms += ms;
        self.feed(Input::Tick);
    }

    fn ask(&mut self, client: u64, caller: Caller, request: Request) {
        self.feed(Input::Request(ClientId(client), caller, request));
    }

    fn status(&self) -> Status {
        self.core.status(self.now())
    }

    /// The job that went out last, if any did since the last call of this.
    fn job(&mut self) -> Option<(Ticket, Want, Binding)> {
        let job = self.out.iter().rev().find_map(|effect| match effect {
            Effect::Tpm(ticket, Job::Quote(want, ask)) => {
                Some((*ticket, *want, ask.binding.clone()))
            }
            _ => None,
        });
        self.out.retain(|effect| !matches!(effect, Effect::Tpm(..)));
        job
    }

    /// Answers the job that is with the TPM by a good quote of reset `reset`.
    fn quoted(&mut self, reset: u32, verdict: Verdict) -> Want {
        let (ticket, want, binding) = self.job().expect("a quote is asked for");
        let verdict = (want == Want::Own).then_some(verdict);
        self.feed(Input::Done(ticket, attested(binding, reset, verdict)));
        want
    }

    /// Why the box looked at itself, each time so far.
    fn causes(&self) -> Vec<String> {
        let cause = |effect: &Effect| match effect {
            Effect::Log(_, line) if line.starts_with("attested ") => {
                line.split_once("cause=").map(|(_, cause)| cause.to_owned())
            }
            _ => None,
        };
        self.out.iter().filter_map(cause).collect()
    }

    fn replies(&mut self) -> Vec<Reply> {
        let take = |effect: Effect| match effect {
            Effect::Reply(_, reply) => Some(reply),
            _ => None,
        };
        std::mem::take(&mut self.out).into_iter().filter_map(take).collect()
    }

    /// A ledger that takes everything at once.
    fn ledger(&mut self, node: u8) {
        self.feed(Input::LedgerUp);
        self.serve_ledger(node);
    }

    /// Answers heads and appends until there are none; what was appended, in order.
    fn serve_ledger(&mut self, node: u8) -> Vec<String> {
        let mut seen = Vec::new();
        let wanted = |effect: &Effect| matches!(effect, Effect::AskHead | Effect::Append(..));
        while let Some(at) = self.out.iter().position(wanted) {
            let input = match self.out.remove(at) {
                Effect::Append(id, Event::Attestation(event)) => {
                    seen.push(event.change);
                    Input::Appended(id)
                }
                Effect::Append(id, _) => {
                    seen.push("binding".into());
                    Input::Appended(id)
                }
                _ => Input::Head(head(node)),
            };
            self.feed(input);
        }
        seen
    }
}

fn code_of(reply: &Reply) -> &str {
    match reply {
        Reply::Error { code, .. } => code,
        _ => "",
    }
}

#[test]
fn status_is_answered_in_every_state() {
    let mut bench = Bench::new();
    bench.ask(1, process(CONSOLE_UID, 5), Request::Status);
    assert!(matches!(bench.replies().as_slice(), [Reply::Status(_)]));
    assert_eq!(bench.status().level, "L0");
    let absent = Fault::new("HP-AT-006", "tpm: the box has none; fit one");
    for condition in [Condition::None(absent.clone()), Condition::Failed(absent)] {
        let mut bench = Bench::new();
        let started = Started { condition, origin: KeyOrigin::Boot, ..enrolled() };
        bench.feed(Input::Done(Ticket(0), Done::Started(Box::new(started))));
        let status = bench.status();
        assert_eq!((status.level.as_str(), status.verdict), ("L0", Verdict::None));
        assert_eq!((status.epoch, status.key), (0, KeyOrigin::Boot));
        assert!(status.diagnostics.iter().any(|d| d.code == "HP-AT-006" && d.object == "tpm"));
        bench.ask(1, process(SENSOR_UID, 5), challenge(32));
        assert_eq!(code_of(&bench.replies()[0]), "HP-AT-006");
        bench.after(OWN_MS);
        assert_eq!(bench.job(), None, "nothing is asked of a TPM that is not there");
    }
}

#[test]
fn own_appraisal_each_minute_and_events_when_the_verdict_changes() {
    let mut bench = Bench::running();
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Own);
    let status = bench.status();
    assert_eq!((status.verdict, status.verified_by.as_str()), (Verdict::Affirming, "self"));
    assert_eq!(status.divergence, "");
    bench.after(OWN_MS - 1);
    assert_eq!(bench.job(), None);
    bench.after(1);
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Own);
    bench.after(OWN_MS);
    bench.quoted(3, Verdict::Contraindicated);
    assert_eq!(bench.status().divergence, "why");
    bench.out.clear();
    bench.feed(Input::LedgerUp);
    let seen = bench.serve_ledger(1);
    assert_eq!(seen, ["enrolled", "verified", "failed"]);
    assert_eq!(bench.status().quotes, (3, 3, 0));
}

#[test]
fn a_service_that_started_again_is_looked_at_at_once() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    let services = |pid| ledger_seen(pid, true);
    bench.feed(Input::Control(1, services(5)));
    bench.feed(Input::Control(2, services(5)));
    assert_eq!(bench.job(), None);
    bench.feed(Input::Control(3, services(6)));
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Own);
    assert_eq!(bench.causes(), ["start", "services"]);
    // Started again between two looks at PID 1: the number tells, whatever process it is.
    let again = |restarts| {
        let Seen { name, pid, matches, .. } = services(6).remove(0);
        vec![Seen { name, pid, restarts, matches }]
    };
    bench.feed(Input::Control(4, again(1)));
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Own);
    bench.feed(Input::Control(5, again(1)));
    assert_eq!(bench.job(), None);
    bench.after(OWN_MS);
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Own);
    assert_eq!(bench.causes(), ["start", "services", "restart service=ledger", "minute"]);
}

#[test]
fn the_seed_goes_to_the_ledger_that_pid_1_names_after_the_request() {
    let mut bench = Bench::running();
    bench.ask(1, process(LEDGER_UID, LEDGER_PID), Request::Seed);
    let asked = bench.out.iter().rev().find_map(|effect| match effect {
        Effect::AskControl(round) => Some(*round),
        _ => None,
    });
    let round = asked.expect("PID 1 is asked");
    let handed =
        |bench: &Bench| bench.out.iter().any(|effect| matches!(effect, Effect::HandSeed { .. }));
    // An answer to an older question does not count.
    bench.feed(Input::Control(round - 1, ledger_seen(LEDGER_PID, true)));
    assert!(!handed(&bench));
    bench.feed(Input::Control(round, ledger_seen(LEDGER_PID, true)));
    let expected =
        Effect::HandSeed { client: ClientId(1), pid: LEDGER_PID, epoch: 7, origin: KeyOrigin::Tpm };
    assert!(bench.out.contains(&expected));
}

#[test]
fn the_seed_is_refused_to_everybody_else() {
    let refused = |caller: Caller, seen: Option<Vec<Seen>>| {
        let mut bench = Bench::running();
        bench.ask(1, caller, Request::Seed);
        if let Some(seen) = seen {
            bench.feed(Input::Control(100, seen));
        }
        assert!(!bench.out.iter().any(|effect| matches!(effect, Effect::HandSeed { .. })));
        bench
            .out
            .iter()
            .find_map(|effect| match effect {
                Effect::RefuseSeed(ClientId(1), fault) => Some(fault.code.clone()),
                _ => None,
            })
            .expect("refused")
    };
    let ledger = process(LEDGER_UID, LEDGER_PID);
    assert_eq!(refused(process(CONSOLE_UID, LEDGER_PID), None), "HP-AT-001");
    assert_eq!(refused(process(0, LEDGER_PID), None), "HP-AT-001");
    assert_eq!(refused(Caller::Port, None), "HP-AT-010");
    assert_eq!(refused(Caller::Process { uid: LEDGER_UID, pid: None }, None), "HP-AT-002");
    assert_eq!(refused(ledger, Some(ledger_seen(LEDGER_PID + 1, true))), "HP-AT-002");
    assert_eq!(refused(ledger, Some(ledger_seen(LEDGER_PID, false))), "HP-AT-002");
}

#[test]
fn the_seed_comes_later_while_starting_and_when_pid_1_is_silent() {
    let later = |bench: &Bench| bench.out.contains(&Effect::SeedLater(ClientId(1)));
    let ledger = process(LEDGER_UID, LEDGER_PID);
    let mut bench = Bench::new();
    bench.ask(1, ledger, Request::Seed);
    assert!(later(&bench));
    let mut bench = Bench::running();
    bench.ask(1, ledger, Request::Seed);
    assert!(!later(&bench));
    bench.after(SEED_MS_MAX);
    assert!(later(&bench));
    bench.out.clear();
    bench.ask(1, ledger, Request::Seed);
    bench.feed(Input::ControlLost);
    assert!(later(&bench));
    // It is not in PID 1's answer, or not yet with its process: a no would be final for the ledger.
    for seen in [Vec::new(), ledger_seen(0, true)] {
        bench.out.clear();
        bench.ask(1, ledger, Request::Seed);
        bench.feed(Input::Control(100, seen));
        assert!(later(&bench));
    }
    bench.out.clear();
    // Who is gone gets nothing.
    bench.ask(2, ledger, Request::Seed);
    bench.feed(Input::Gone(ClientId(2)));
    bench.feed(Input::Control(100, ledger_seen(LEDGER_PID, true)));
    assert!(!bench.out.iter().any(|effect| matches!(effect, Effect::HandSeed { .. })));
}

#[test]
fn a_tpm_that_was_reset_ends_good_verdicts_and_the_seed() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.after(OWN_MS);
    bench.quoted(4, Verdict::Affirming);
    assert!(bench.out.contains(&Effect::ForgetSeed));
    let status = bench.status();
    assert_eq!(status.verdict, Verdict::Contraindicated);
    assert!(status.divergence.starts_with("HP-AT-030"), "{}", status.divergence);
    assert!(status.diagnostics.iter().any(|d| d.code == "HP-AT-030"));
    bench.out.clear();
    bench.ask(1, process(LEDGER_UID, LEDGER_PID), Request::Seed);
    assert!(matches!(
        bench.out.iter().find(|effect| matches!(effect, Effect::RefuseSeed(..))),
        Some(Effect::RefuseSeed(_, fault)) if fault.code == "HP-AT-003"
    ));
    // Even when the counters look right again.
    bench.after(OWN_MS);
    bench.quoted(3, Verdict::Affirming);
    assert_eq!(bench.status().verdict, Verdict::Contraindicated);
}

#[test]
fn a_reset_while_pid_1_is_asked_keeps_the_seed_here() {
    let mut bench = Bench::running();
    bench.ask(1, process(LEDGER_UID, LEDGER_PID), Request::Seed);
    bench.quoted(4, Verdict::Affirming);
    bench.feed(Input::Control(100, ledger_seen(LEDGER_PID, true)));
    assert!(!bench.out.iter().any(|effect| matches!(effect, Effect::HandSeed { .. })));
}

#[test]
fn a_silent_tpm_costs_the_level_and_nothing_else() {
    let mut bench = Bench::running();
    let (ticket, _, binding) = bench.job().unwrap();
    bench.ask(1, process(SENSOR_UID, 5), challenge(32));
    bench.after(TPM_MS_MAX);
    let status = bench.status();
    assert_eq!((status.level.as_str(), status.verdict), ("L0", Verdict::None));
    assert!(status.divergence.starts_with("HP-AT-007"));
    assert_eq!(code_of(&bench.replies()[0]), "HP-AT-007", "who waited is told");
    bench.ask(2, process(SENSOR_UID, 5), challenge(32));
    assert_eq!(code_of(&bench.replies()[0]), "HP-AT-007");
    bench.after(OWN_MS * 3);
    assert_eq!(bench.job(), None);
    // It answers at last: what it said is too old, the box looks again.
    bench.feed(Input::Done(ticket, attested(binding, 3, Some(Verdict::Affirming))));
    assert_eq!(bench.status().verdict, Verdict::None);
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Own);
    assert_eq!(bench.status().verdict, Verdict::Affirming);
}

#[test]
fn a_start_that_hangs_gives_a_boot_seed_and_ready() {
    let mut bench = Bench::new();
    bench.after(START_MS_MAX - 1);
    assert!(!bench.out.contains(&Effect::Ready));
    assert!(bench.out.contains(&Effect::Extend));
    bench.after(1);
    assert!(bench.out.contains(&Effect::DrawSeed) && bench.out.contains(&Effect::Ready));
    assert_eq!(bench.status().key, KeyOrigin::Boot);
    bench.feed(Input::Done(Ticket(0), Done::Started(Box::new(enrolled()))));
    assert_eq!(bench.status().key, KeyOrigin::Boot, "an identity is not changed in the middle");
    assert_eq!(bench.job(), None);
}

#[test]
fn challenges_vouch_for_the_ledgers_head_and_do_not_wait_for_it() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.ask(1, process(SENSOR_UID, 5), challenge(32));
    let (ticket, want, binding) = bench.job().expect("without a ledger at once");
    assert_eq!((want, binding.node, binding.length), (Want::Challenge { full: true }, None, 0));
    bench.feed(Input::Done(ticket, attested(Binding { ..bench_binding() }, 3, None)));
    assert!(
        bench.out.iter().any(|e| matches!(e, Effect::Evidence(ClientId(1), b) if b.len() == 100))
    );
    bench.out.clear();
    bench.feed(Input::LedgerUp);
    bench.feed(Input::Head(head(1)));
    assert_eq!(bench.job(), None, "asks again before it quotes");
    bench.feed(Input::Head(head(1)));
    let (ticket, want, binding) = bench.job().unwrap();
    assert_eq!((want, binding.length), (Want::Epoch, 2));
    assert_eq!(binding.nonce.len(), 16, "the boot id");
    bench.feed(Input::Done(ticket, attested(binding, 3, None)));
    bench.out.clear();
    // A ledger that does not answer costs half a second, and what it said last is quoted.
    bench.ask(2, process(SENSOR_UID, 5), challenge(32));
    assert_eq!(bench.job(), None);
    bench.after(HEAD_MS_MAX);
    let (_, want, binding) = bench.job().unwrap();
    assert_eq!((want, binding.length), (Want::Challenge { full: true }, 2));
}

fn bench_binding() -> Binding {
    Binding {
        nonce: vec![5; 32].into(),
        exporter: None,
        node: None,
        epoch: 7,
        length: 0,
        head: None,
        root: None,
    }
}

#[test]
fn the_epoch_is_bound_once_per_key() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.ledger(1);
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Epoch);
    let seen = bench.serve_ledger(1);
    assert!(seen.contains(&"binding".to_owned()), "{seen:?}");
    assert_eq!(bench.status().node, Some(NodeId::new([1; 32])));
    // A restart of the ledger does not unbind it.
    bench.feed(Input::LedgerLost);
    bench.ask(9, Caller::Port, challenge(32));
    let (ticket, _, binding) = bench.job().unwrap();
    assert_eq!(binding.node.as_ref().map(|node| node[0]), Some(1));
    bench.feed(Input::Done(ticket, attested(binding, 3, None)));
    bench.ledger(1);
    assert_eq!(bench.job(), None);
    bench.after(CONTROL_MS);
    bench.serve_ledger(1);
    assert_eq!(bench.job(), None);
}

#[test]
fn a_ledger_with_another_key_than_the_seeds_is_never_vouched_for() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.ledger(2);
    assert_eq!(bench.job(), None, "no epoch is bound");
    let said = |bench: &Bench| {
        bench
            .out
            .iter()
            .filter(|e| matches!(e, Effect::Log(_, line) if line.starts_with("HP-AT-036")))
            .count()
    };
    assert_eq!(said(&bench), 1);
    assert!(bench.status().diagnostics.iter().any(|d| d.code == "HP-AT-036"));
    bench.ask(2, process(SENSOR_UID, 5), challenge(32));
    bench.serve_ledger(2);
    assert_eq!(said(&bench), 1, "once");
    let (ticket, _, binding) = bench.job().unwrap();
    assert_eq!((binding.node, binding.length, binding.head), (None, 0, None));
    bench.feed(Input::Done(ticket, attested(bench_binding(), 3, None)));
    // The right one comes, is bound, and is not replaced by another.
    bench.feed(Input::LedgerLost);
    bench.after(CONTROL_MS);
    bench.ledger(1);
    assert_eq!(bench.quoted(3, Verdict::Affirming), Want::Epoch);
    assert!(bench.status().diagnostics.iter().all(|d| d.code != "HP-AT-036"));
    bench.feed(Input::LedgerLost);
    bench.after(CONTROL_MS);
    bench.ledger(2);
    assert_eq!(bench.job(), None);
    bench.ask(3, process(SENSOR_UID, 5), challenge(32));
    bench.serve_ledger(2);
    let (_, _, binding) = bench.job().unwrap();
    assert_eq!((binding.node, binding.length), (None, 0));
}

#[test]
fn a_ledger_that_changes_between_question_and_quote_is_not_bound() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.feed(Input::LedgerUp);
    bench.feed(Input::Head(head(1)));
    assert_eq!(bench.job(), None, "asked again first");
    bench.feed(Input::Head(head(2)));
    let (ticket, want, binding) = bench.job().unwrap();
    assert_eq!((want, binding.node.clone()), (Want::Epoch, None));
    bench.feed(Input::Done(ticket, attested(binding, 3, None)));
    bench.ask(1, process(SENSOR_UID, 5), challenge(32));
    bench.serve_ledger(2);
    assert_eq!(bench.job().unwrap().2.node, None);
}

#[test]
fn a_flood_is_bounded_counted_and_does_not_stop_the_box_from_looking_at_itself() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.out.clear();
    for client in 0..1000 {
        bench.ask(client, process(SENSOR_UID, 5), challenge(32));
    }
    let refused = bench.replies().iter().filter(|reply| code_of(reply) == "HP-AT-005").count();
    // One is with the TPM, some wait, the rest is refused.
    assert!(refused >= 1000 - BURST as usize && refused <= 1000 - PER_SOURCE_MAX, "{refused}");
    assert_eq!(bench.status().quotes.2, refused as u64);
    // Another source is served.
    bench.ask(2000, Caller::Port, challenge(32));
    assert!(bench.replies().is_empty());
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    let mut own = 0;
    for client in 0..400 {
        bench.ask(client, process(SENSOR_UID, 5), challenge(32));
        bench.after(500);
        own += usize::from(bench.quoted(3, Verdict::Affirming) == Want::Own);
        bench.out.retain(|effect| matches!(effect, Effect::Tpm(..)));
    }
    assert!(own >= 3, "200 s, {own} own");
}

#[test]
fn nonces_and_credentials_of_other_lengths_are_refused() {
    let mut bench = Bench::running();
    for bytes in [0, 7, 65] {
        bench.ask(1, Caller::Port, challenge(bytes));
        assert_eq!(code_of(&bench.replies()[0]), "HP-AT-004", "{bytes}");
    }
    let (credential, secret) = (vec![0; 1025].into(), vec![].into());
    bench.ask(1, Caller::Port, Request::Activate { credential, secret });
    assert_eq!(code_of(&bench.replies()[0]), "HP-AT-004");
}

#[test]
fn the_endorsement_key_decrypts_for_no_service() {
    let mut bench = Bench::running();
    let request =
        || Request::Activate { credential: vec![1; 64].into(), secret: vec![2; 64].into() };
    for uid in [SENSOR_UID, LEDGER_UID, 0, 850] {
        bench.ask(1, process(uid, 5), request());
        assert_eq!(code_of(&bench.replies()[0]), "HP-AT-001", "{uid}");
    }
    bench.ask(1, process(CONSOLE_UID, 9), request());
    assert!(bench.replies().is_empty(), "it is asked of the TPM");
}

#[test]
fn the_recovery_key_is_for_the_console_until_it_was_noted() {
    let mut bench = Bench::running();
    bench.quoted(3, Verdict::Affirming);
    bench.out.clear();
    assert!(bench.status().recovery_waiting);
    for caller in [process(SENSOR_UID, 5), process(0, 1), Caller::Port] {
        for request in [Request::Recovery, Request::RecoveryNoted] {
            bench.ask(1, caller, request);
            assert!(["HP-AT-001", "HP-AT-010"].contains(&code_of(&bench.replies()[0])));
        }
    }
    let console = process(CONSOLE_UID, 9);
    bench.ask(1, console, Request::Recovery);
    assert_eq!(bench.replies(), [Reply::Recovery(Some("words".into()))]);
    bench.ask(1, console, Request::RecoveryNoted);
    let ticket = match bench.out.last() {
        Some(Effect::Tpm(ticket, Job::ForgetRecovery)) => *ticket,
        other => panic!("{other:?}"),
    };
    bench.out.clear();
    let fault = Fault::new("HP-AT-021", "identity file: full");
    bench.feed(Input::Done(ticket, Done::Forgotten(Err(fault))));
    assert_eq!(code_of(&bench.replies()[0]), "HP-AT-021");
    assert!(bench.status().recovery_waiting, "kept until it is off the disk");
    bench.ask(1, console, Request::RecoveryNoted);
    let Some(Effect::Tpm(ticket, Job::ForgetRecovery)) = bench.out.pop() else { panic!() };
    bench.feed(Input::Done(ticket, Done::Forgotten(Ok(()))));
    assert_eq!(bench.replies(), [Reply::Recovery(None)]);
    assert!(!bench.status().recovery_waiting);
}

#[test]
fn the_recovery_key_can_be_noted_without_an_identity() {
    let console = process(CONSOLE_UID, 9);
    for condition in [Condition::None, Condition::Failed] {
        let mut bench = Bench::new();
        bench.ask(1, console, Request::RecoveryNoted);
        assert_eq!(bench.replies(), [Reply::Recovery(None)], "none is known yet");
        let condition = condition(Fault::new("HP-AT-006", "tpm: the box has none; fit one"));
        let started = Started { condition, ..enrolled() };
        bench.feed(Input::Done(Ticket(0), Done::Started(Box::new(started))));
        bench.ask(1, console, Request::RecoveryNoted);
        let Some(Effect::Tpm(ticket, Job::ForgetRecovery)) = bench.out.pop() else { panic!() };
        bench.feed(Input::Done(ticket, Done::Forgotten(Ok(()))));
        assert_eq!(bench.replies(), [Reply::Recovery(None)]);
        assert!(!bench.status().recovery_waiting);
    }
    // With a TPM that hangs nobody waits for ever.
    let mut bench = Bench::running();
    assert!(bench.job().is_some());
    bench.ask(1, console, Request::RecoveryNoted);
    bench.after(TPM_MS_MAX);
    assert_eq!(code_of(&bench.replies()[0]), "HP-AT-007");
    assert!(bench.status().recovery_waiting);
}

#[test]
fn an_answer_to_a_job_that_was_never_given_changes_nothing() {
    let mut bench = Bench::running();
    let (_, _, binding) = bench.job().unwrap();
    bench.feed(Input::Done(Ticket(999), attested(binding, 9, Some(Verdict::Affirming))));
    assert_eq!(bench.status().verdict, Verdict::None);
    assert_eq!(bench.status().quotes.0, 0);
}

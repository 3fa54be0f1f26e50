//! What `/metrics` tells. Labels are workers, routed commands and closed sets of causes, codes, phases
//! and steps: nothing that a client sends becomes a series.

use prometheus_client::registry::Unit;

use super::Control;
use super::metrics::{Family, Labels, Value};
use super::process::Process;
use crate::build;
use crate::proto::{Command, ErrorCode};
use crate::service::{BUILT_IN, Place};
use crate::stats::{Cause, Label, Overview, Phase, StatKind, Step, WorkerStats, seconds};

type Workers = [std::sync::Arc<WorkerStats>];

/// Every family, as it is now. The workers are not stopped to be read.
pub(super) fn all(control: &dyn Control) -> Vec<Family> {
    let (workers, overview) = (control.workers(), control.overview());
    let mut families = server(control);
    families.extend(requests(&workers, &overview));
    families.push(ends(&workers));
    families.extend(plain(&workers));
    families.extend(time(&workers, &overview));
    families.extend(drain(&workers, &overview));
    families.extend(pool(&overview));
    families.extend(room(&overview));
    families.extend(super::records::all(&overview));
    families.extend(process(&Process::now()));
    families
}

fn server(control: &dyn Control) -> Vec<Family> {
    let labels = vec![
        ("version", build::VERSION.to_owned()),
        ("commit", build::COMMIT.to_owned()),
        ("features", build::FEATURES.join(" ")),
        ("service_id", control.service_id().to_owned()),
    ];
    vec![
        Family::info("tidegate_build", "What is running.").with(labels, Value::Whole(1)),
        Family::gauge("tidegate_ready", "1 while new connections are welcome.").of(flag(control.ready().is_ok())),
        Family::gauge("tidegate_healthy", "1 while every worker is there and turns its loop.")
            .of(flag(control.healthy().is_ok())),
    ]
}

/// By command: those that the server answers by itself and those that are routed have series, whether or
/// not anybody has asked for them; what else clients send is together `other`.
fn requests(workers: &Workers, overview: &Overview) -> Vec<Family> {
    let help =
        "Requests by command and outcome, each counted when its answer is made. What nothing serves is cmd=other.";
    let mut answers = Family::counter("tidegate_requests", help);
    let served: Vec<Command> = BUILT_IN.into_iter().chain(overview.handlers.iter().map(|h| h.cmd)).collect();
    let sum = |cmd: Command| {
        let each = workers.iter().map(|worker| worker.requests.of(cmd));
        each.fold((0, 0), |(answered, failed), o| (answered + o.answered.get(), failed + o.failed.get()))
    };
    let (mut answered, mut failed) = workers.iter().map(|worker| worker.requests.sum()).fold((0, 0), add);
    for cmd in &served {
        let of = sum(*cmd);
        (answered, failed) = (u64::saturating_sub(answered, of.0), u64::saturating_sub(failed, of.1));
        answers = outcomes(answers, &cmd.to_string(), of);
    }
    answers = outcomes(answers, "other", (answered, failed));
    let help = "Requests answered with an ERROR, by its code.";
    let mut errors = Family::counter("tidegate_request_errors", help);
    for code in <ErrorCode as Label>::ALL {
        let sum = workers.iter().map(|worker| worker.errors.of(*code).get()).sum();
        errors = errors.with(vec![("code", Label::name(*code).to_owned())], Value::Whole(sum));
    }
    let help = "From the call of a routed handler to its answer, time in the pool's queue included. What the server \
                answers by itself (ECHO, PING, sessions) is not timed.";
    let mut handlers = Family::histogram("tidegate_handler", help).unit(Unit::Seconds);
    for handler in &overview.handlers {
        let place = match handler.place {
            Place::Worker => "worker",
            Place::Pool => "pool",
        };
        let labels = vec![("cmd", handler.cmd.to_string()), ("place", place.to_owned())];
        handlers = handlers.with(labels, Value::Times(handler.latency.clone()));
    }
    vec![answers, errors, handlers]
}

fn add(a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    (a.0 + b.0, a.1 + b.1)
}

fn outcomes(family: Family, cmd: &str, (answered, failed): (u64, u64)) -> Family {
    let labels = |outcome: &str| vec![("cmd", cmd.to_owned()), ("outcome", outcome.to_owned())];
    family.with(labels("answered"), Value::Whole(answered)).with(labels("failed"), Value::Whole(failed))
}

fn ends(workers: &Workers) -> Family {
    let help = "Connections that are over, by kind (ended, lost, refused, error, cut) and cause. Together with those \
                that are open they are those that were accepted.";
    let mut family = Family::counter("tidegate_connections_closed", help);
    for cause in Cause::ALL {
        let sum = workers.iter().map(|worker| worker.closed.of(*cause).get()).sum();
        let labels = vec![("kind", cause.kind().name().to_owned()), ("cause", cause.name().to_owned())];
        family = family.with(labels, Value::Whole(sum));
    }
    family
}

/// The plain counters of each worker. `answered` and `failed` are not among them: what a drain cuts is
/// taken back from those, which a counter must not do; `tidegate_requests` has the answers.
fn plain(workers: &Workers) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for (index, worker) in workers.iter().enumerate() {
        let shown = worker.each().filter(|(name, ..)| !matches!(*name, "answered" | "failed"));
        for (at, (stat, kind, help, value)) in shown.enumerate() {
            if index == 0 {
                let (name, unit) = name(stat);
                let family = match kind {
                    StatKind::Counter => Family::counter(name, help),
                    StatKind::Gauge => Family::gauge(name, help),
                };
                families.push(Family { unit, ..family });
            }
            families[at].series.push((of_worker(index), Value::Whole(value)));
        }
    }
    families
}

/// A plain counter's name, with its unit apart where it has one.
fn name(stat: &str) -> (String, Option<Unit>) {
    let (name, unit) = match stat {
        "accepted" => ("requests_accepted", None),
        "cut" => ("requests_cut", None),
        "kept" => ("requests_kept", None),
        "in_flight" => ("requests_in_flight", None),
        "unbalanced" => ("ledger_unbalanced_requests", None),
        "bytes_in" => ("received", Some(Unit::Bytes)),
        "bytes_out" => ("sent", Some(Unit::Bytes)),
        "bytes_unacked" => ("unacked", Some(Unit::Bytes)),
        "outbound_bytes" => ("outbound", Some(Unit::Bytes)),
        "buffer_bytes" => ("buffer", Some(Unit::Bytes)),
        other => (other, None),
    };
    (format!("tidegate_{name}"), unit)
}

fn time(workers: &Workers, overview: &Overview) -> Vec<Family> {
    let help = "Where a worker's time goes. Waiting (poll) is exact, and 1 - its rate is how busy the core is; the other \
                steps have their shares from one tick in 64 and from whatever is slow.";
    let mut steps = Family::counter("tidegate_worker_step", help).unit(Unit::Seconds);
    let help =
        "How long a tick worked: so long whatever came meanwhile waited. A handler that blocks in place is in here.";
    let mut ticks = Family::histogram("tidegate_tick", help).unit(Unit::Seconds);
    let help = "CPU time of a worker's thread, as of a second ago at most.";
    let mut cpu = Family::counter("tidegate_worker_cpu", help).unit(Unit::Seconds);
    for (index, worker) in workers.iter().enumerate() {
        for step in Step::ALL {
            let mut labels = of_worker(index);
            labels.push(("step", step.name().to_owned()));
            steps = steps.with(labels, Value::Real(seconds(worker.steps_ns.of(*step).get())));
        }
        ticks = ticks.with(of_worker(index), Value::Times(worker.ticks_took.read()));
        cpu = cpu.with(of_worker(index), Value::Real(seconds(worker.cpu_ns.get())));
    }
    let help = "1 while a thread runs the worker: not after its drain, nor between a panic and its return.";
    let mut up = Family::gauge("tidegate_worker_up", help);
    let help = "Since the worker's last tick began. One with nothing to do ticks once a second.";
    let mut age = Family::gauge("tidegate_worker_last_tick_age", help).unit(Unit::Seconds);
    for (index, worker) in overview.workers.iter().enumerate() {
        up = up.with(of_worker(index), flag(worker.alive));
        age = age.with(of_worker(index), Value::Real(worker.last_tick.as_secs_f64()));
    }
    vec![steps, ticks, cpu, up, age]
}

fn drain(workers: &Workers, overview: &Overview) -> Vec<Family> {
    let mut phases = Family::gauge("tidegate_drain_phase", "1 for the phase that the worker is in, 0 for all others.");
    for (index, worker) in workers.iter().enumerate() {
        let now = worker.drain.phase();
        for phase in Phase::ALL {
            let mut labels = of_worker(index);
            labels.push(("phase", phase.name().to_owned()));
            phases = phases.with(labels, flag(*phase == now));
        }
    }
    let view = overview.drain.as_ref();
    let (elapsed, left) = view.map_or((0.0, 0.0), |view| (view.elapsed.as_secs_f64(), view.left.as_secs_f64()));
    let begun_with = view.map_or(0, |view| view.connections_at_begin);
    vec![
        phases,
        Family::gauge("tidegate_draining", "1 from the beginning of the drain on.").of(flag(view.is_some())),
        Family::gauge("tidegate_drain_elapsed", "Since the drain began; 0 before.")
            .unit(Unit::Seconds)
            .of(Value::Real(elapsed)),
        Family::gauge("tidegate_drain_left", "Until the drain cuts what is left; 0 before it has begun.")
            .unit(Unit::Seconds)
            .of(Value::Real(left)),
        Family::gauge("tidegate_drain_connections_at_begin", "Connections that were open when the drain began.")
            .of(Value::Whole(begun_with)),
    ]
}

fn pool(overview: &Overview) -> Vec<Family> {
    let pool = overview.pool;
    vec![
        Family::gauge("tidegate_pool_threads", "Threads of the blocking pool.").of(whole(pool.threads)),
        Family::gauge("tidegate_pool_busy_threads", "Threads of the blocking pool that serve a request.")
            .of(whole(pool.busy)),
        Family::gauge("tidegate_pool_queued", "Requests that wait for a thread of the blocking pool.")
            .of(whole(pool.queued)),
        Family::gauge("tidegate_pool_queue_capacity", "Requests that may wait; more are OVERLOADED.")
            .of(whole(pool.queue)),
    ]
}

/// What there is room for, and what of it no counter tells.
fn room(overview: &Overview) -> Vec<Family> {
    let help = "Messages in the worker's mailbox: letters of other workers, answers of handlers.";
    let mut mailbox = Family::gauge("tidegate_mailbox_messages", help);
    let help = "Slots for connections, those in which connections over the limit are turned away included.";
    let mut slots = Family::gauge("tidegate_connection_slots", help);
    for (index, worker) in overview.workers.iter().enumerate() {
        mailbox = mailbox.with(of_worker(index), whole(worker.mailbox));
        slots = slots.with(of_worker(index), whole(worker.connection_capacity));
    }
    let help = "What a worker may have, each in its own unit: the TIDEGATE_CORE_ settings in effect.";
    let mut settings = Family::gauge("tidegate_setting", help);
    for setting in &overview.settings {
        let labels = vec![("name", setting.name.clone()), ("worker", setting.worker.to_string())];
        settings = settings.with(labels, Value::Real(setting.value));
    }
    vec![mailbox, slots, settings]
}

/// By the names that Prometheus' own clients use.
fn process(process: &Process) -> Vec<Family> {
    let gauge = |name: &str, help: &str, value: Option<u64>| {
        let family = Family::gauge(name, help);
        Family { series: value.map(|value| (Vec::new(), Value::Whole(value))).into_iter().collect(), ..family }
    };
    let start = process.start_time_s.map(|at| (Vec::new(), Value::Real(at)));
    let started = Family::gauge("process_start_time", "When the process started, since 1970.").unit(Unit::Seconds);
    vec![
        Family::counter("process_cpu", "CPU time of the process.")
            .unit(Unit::Seconds)
            .of(Value::Real(process.cpu_seconds)),
        Family { series: start.into_iter().collect(), ..started },
        gauge("process_resident_memory", "Memory in RAM.", process.rss_bytes).unit(Unit::Bytes),
        gauge("process_virtual_memory", "Address space.", process.virtual_bytes).unit(Unit::Bytes),
        gauge("process_threads", "Threads.", process.threads),
        gauge("process_open_fds", "Files and sockets open.", process.open_fds),
        gauge("process_max_fds", "Files and sockets that may be open.", process.max_fds),
    ]
}

fn of_worker(index: usize) -> Labels {
    vec![("worker", index.to_string())]
}

fn flag(on: bool) -> Value {
    Value::Whole(on.into())
}

fn whole(n: usize) -> Value {
    Value::Whole(n as u64)
}

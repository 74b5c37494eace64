//! Calls that run. Each has a task of its own and is seen through there, so that what Vault hears of is recorded
//! to its end whether or not its caller still waits.

use std::future::Future;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::PANICKED;
use crate::error::Error;

/// The calls of this process.
#[derive(Default)]
pub(super) struct Running(TaskTracker);

impl Running {
    /// What comes of a call. Dropping this does not end the call: what then comes of it goes to `unheard`.
    ///
    /// # Errors
    /// The call's own; `internal` where it ended in a panic.
    pub(super) async fn see_through<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
        unheard: impl FnOnce(Result<T, Error>) + Send + 'static,
    ) -> Result<T, Error> {
        let (tell, told) = oneshot::channel();
        let task = async move {
            if let Err(outcome) = tell.send(call.await) {
                unheard(outcome);
            }
        };
        self.0.spawn(task.in_current_span());
        told.await.unwrap_or(Err(PANICKED))
    }

    /// Waits until none is left.
    pub(super) async fn ended(&self) {
        self.0.close();
        self.0.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        audit::Audit,
        broker::{Broker, Granted, Place},
        caller::{Caller, Front, Meter},
        config::{Config, Layers},
        handover::Roots,
        names::Subject,
        op::{Effect, Op, Operation, Spec, Target, Toolset},
        vault::Vault,
    };

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_any_more_is_seen_through_and_waited_for_at_the_end() {
        let running = Running::default();
        let unheard = Arc::new(AtomicUsize::new(0));
        let (go, gone) = oneshot::channel();
        {
            let count = unheard.clone();
            let call = running.see_through(async { Ok(gone.await.unwrap_or(0)) }, move |outcome| {
                count.store(outcome.unwrap_or_default(), Ordering::Relaxed)
            });
            assert!(futures_util::poll!(Box::pin(call)).is_pending());
        }
        let mut ended = Box::pin(running.ended());
        assert!(futures_util::poll!(&mut ended).is_pending());
        go.send(7).unwrap();
        ended.await;
        assert_eq!(unheard.load(Ordering::Relaxed), 7);
    }

    #[tokio::test]
    async fn a_panic_is_its_own_calls_alone() {
        let running = Running::default();
        let call = running.see_through::<()>(async { panic!("on purpose") }, |_| {});
        assert_eq!(call.await.unwrap_err().code(), "internal");
        running.see_through(async { Ok(()) }, |_| {}).await.unwrap();
        running.ended().await;
    }

    /// An operation with a fault of its own.
    struct Faulty;

    #[derive(Deserialize, JsonSchema)]
    struct Nothing {}

    #[derive(Serialize, JsonSchema)]
    struct Never {}

    impl Operation for Faulty {
        const SPEC: Spec = Spec {
            id: "faulty",
            title: "",
            summary: "",
            scope: None,
            effect: Effect::Write,
            toolset: Toolset::Session,
            idempotent: false,
        };
        type Input = Nothing;
        type Output = Never;

        fn target(_: &Nothing, _: &Place) -> Result<Target, Error> {
            Ok(Target::named("-"))
        }

        async fn run(_: Nothing, _: Granted) -> Result<Never, Error> {
            panic!("on purpose")
        }
    }

    static FAULTY: Op = Op::of::<Faulty>();

    #[tokio::test]
    async fn a_panic_behind_the_request_record_has_a_response_record() {
        let folder = tempfile::Builder::new().prefix("running").tempdir().unwrap();
        let log = folder.path().join("audit.jsonl");
        let environment = [("AUDIT_LOG".to_owned(), log.display().to_string())].into();
        let config = Arc::new(Config::load(&Layers { environment, ..Layers::default() }).unwrap());
        let audit = Audit::open(config.audit_settings().unwrap()).unwrap();
        let broker = Broker::new(config.clone(), Vault::new(&config).unwrap(), audit);
        let subject = Subject::parse("alice").unwrap();
        let caller = Caller {
            place: Arc::new(Place::of(&config, &subject)),
            subject,
            scopes: Vec::new(),
            front: Front::Rest,
            client: None,
            roots: Roots::none(),
            meter: Meter::default(),
        };
        let error = broker.call(&FAULTY, json!({}), &caller, None).await.err().unwrap();
        assert_eq!(error.code(), "internal");
        let text = std::fs::read_to_string(log).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_call: Vec<_> = records.filter(|record| record["op"] == "faulty").collect();
        let actions: Vec<_> = of_call.iter().map(|record| record["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["REQUEST", "FAILED"]);
        assert_eq!(of_call[1]["code"], "internal");
    }
}

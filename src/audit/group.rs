//! One fsync for all the records that wait for one.
//!
//! Whoever has appended a record and must have it on the disk gets in line. A thread of its own takes the whole
//! line, forces the file to the disk once, and lets all of them go on: an fsync covers what was written before it.
//! Who comes meanwhile is the next line. The thread begins with the first that waits this way, so a process that
//! serves one caller never has it; it ends with the log.

use std::{
    fs::File,
    io,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
};

use tokio::sync::oneshot;

use super::{AuditError, writer::Written};

/// Where records get in line.
#[derive(Default)]
pub(super) struct Group(OnceLock<Option<Sender<InLine>>>);

struct InLine {
    written: Written,
    done: oneshot::Sender<Result<(), AuditError>>,
}

impl Group {
    /// Waits until the disk has the record, without holding up the thread that asks.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) async fn sync(&self, written: Written) -> Result<(), AuditError> {
        let (done, told) = oneshot::channel();
        let line = self.0.get_or_init(begin).as_ref();
        let Some(line) = line else { return written.sync() };
        if let Err(back) = line.send(InLine { written, done }) {
            return back.0.written.sync();
        }
        told.await.unwrap_or(Err(AuditError::Usage {
            what: "the thread that forces records to the disk has ended".to_owned(),
            remedy: "start the program again",
        }))
    }
}

/// Nothing where the system gives no thread: then everybody waits for themselves.
fn begin() -> Option<Sender<InLine>> {
    let (line, next) = channel();
    let thread = std::thread::Builder::new().name("audit-sync".to_owned());
    thread.spawn(move || serve(&next, File::sync_data)).ok().map(|_| line)
}

fn serve(next: &Receiver<InLine>, force: impl Fn(&File) -> io::Result<()>) {
    while let Ok(first) = next.recv() {
        // Rotation may have come in between: then there are two files, and each is forced once.
        let mut by_file: Vec<(Arc<File>, Vec<InLine>)> = Vec::new();
        for one in std::iter::once(first).chain(next.try_iter()) {
            match by_file.iter_mut().find(|(file, _)| Arc::ptr_eq(file, one.written.file())) {
                Some((_, line)) => line.push(one),
                None => by_file.push((Arc::clone(one.written.file()), vec![one])),
            }
        }
        for (file, line) in by_file {
            let outcome = force(&file);
            for InLine { written, done } in line {
                let told = match &outcome {
                    Ok(()) => Ok(()),
                    Err(fault) => Err(written.fault(again(fault))),
                };
                // Who went away needs no word.
                let _ = done.send(told);
            }
        }
    }
}

/// The same fault for one more of those who waited.
fn again(fault: &io::Error) -> io::Error {
    fault.raw_os_error().map_or_else(|| fault.kind().into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use crate::audit::{Action, Audit, Event, Settings};

    fn event() -> Event<'static> {
        Event {
            action: Action::Request,
            id: "0b0f2f6e-3d5c-4f0e-9a3f-6f4f2d3c1b2a",
            subject: "alice",
            front: "rest",
            client: None,
            op: "kv.write",
            effect: "write",
            target: "secret/mcp/alice/app",
            keys: &[],
            outcome: None,
            code: None,
            vault_request_id: None,
            approval: None,
            durable: true,
        }
    }

    fn log() -> (tempfile::TempDir, Audit) {
        let folder = tempfile::Builder::new().prefix("audit-group").tempdir().unwrap();
        let log = Audit::open(Settings::new(folder.path().join("audit.jsonl"))).unwrap();
        (folder, log)
    }

    type Told = oneshot::Receiver<Result<(), AuditError>>;

    fn get_in_line(log: &Audit, line: &Sender<InLine>) -> Told {
        let (_, written) = log.append(&event()).unwrap().missing.unwrap();
        let (done, told) = oneshot::channel();
        assert!(line.send(InLine { written, done }).is_ok());
        told
    }

    #[test]
    fn all_that_wait_while_the_disk_is_at_it_share_the_next_fsync_and_its_outcome() {
        let (_folder, log) = log();
        let (line, next) = channel();
        let (begun, begins) = mpsc::channel();
        let (release, released) = mpsc::channel::<io::Result<()>>();
        let released = Mutex::new(released);
        let thread = std::thread::spawn(move || {
            serve(&next, |_| {
                begun.send(()).unwrap();
                released.lock().unwrap().recv().unwrap()
            });
        });
        let first = get_in_line(&log, &line);
        begins.recv().unwrap();
        let mut together: Vec<_> = (0..15).map(|_| get_in_line(&log, &line)).collect();
        release.send(Ok(())).unwrap();
        assert!(first.blocking_recv().unwrap().is_ok());
        begins.recv().unwrap();
        assert!(together[0].try_recv().is_err(), "let go before the disk had it");
        let last = get_in_line(&log, &line);
        release.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        for told in together {
            let fault = told.blocking_recv().unwrap().unwrap_err();
            assert!(matches!(fault, AuditError::Full { .. }), "{fault}");
        }
        // Who came later is not told of a fault that was not theirs.
        begins.recv().unwrap();
        release.send(Ok(())).unwrap();
        assert!(last.blocking_recv().unwrap().is_ok());
        drop(line);
        thread.join().unwrap();
        assert!(begins.recv().is_err(), "seventeen records, three fsyncs");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_record_that_was_waited_for_is_in_the_chain() {
        let (folder, log) = log();
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let log = log.clone();
                tokio::spawn(async move {
                    let mut numbers = Vec::new();
                    for _ in 0..20 {
                        let appended = log.append(&event()).unwrap();
                        numbers.push(appended.wait_with_others().await.unwrap().seq);
                    }
                    numbers
                })
            })
            .collect();
        let mut numbers = Vec::new();
        for task in tasks {
            numbers.extend(task.await.unwrap());
        }
        assert_eq!(numbers.len(), 320);
        let text = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        for number in numbers {
            assert!(text.contains(&format!("\"seq\":{number},")), "record {number} is missing");
        }
        // A blocking wait is one here, too.
        log.record(&event()).unwrap();
        let options = crate::audit::VerifyOptions::default();
        assert!(
            crate::audit::verify(&folder.path().join("audit.jsonl"), &options).unwrap().problems.is_empty()
        );
    }

    #[tokio::test]
    async fn where_one_thread_does_everything_none_is_added() {
        let (_folder, log) = log();
        log.append(&event()).unwrap().wait_with_others().await.unwrap();
        assert!(log.0.group.0.get().is_none());
    }
}

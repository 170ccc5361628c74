//! A panic anywhere ends the agent: half of it would go on attached, and tally nothing or the wrong thing. The kernel
//! drops the hooks with the process.

use std::panic::{PanicHookInfo, set_hook};

use crate::output;

/// Status of an agent that failed while it ran.
const FAILED: i32 = 1;

/// From now on a panic on whatever thread is said once, and ends the process: no runtime or thread catches it.
pub(crate) fn end_on_panic() {
    set_hook(Box::new(end));
}

#[expect(clippy::exit, reason = "what it is for")]
fn end(info: &PanicHookInfo<'_>) {
    output::note(&format!("kerntally: {}", message(info)));
    std::process::exit(FAILED)
}

fn message(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let what = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = info
        .location()
        .map_or_else(String::new, |place| format!(" at {place}"));
    format!("internal error, the agent ends and its hooks with it: {what}{place}")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    /// Which thread of the program below panics.
    const WHERE: &str = "KERNTALLY_TEST_PANIC";

    /// The program that the test below starts: something panics, and the rest would go on for a minute.
    #[test]
    fn a_program_of_which_a_part_panics() {
        let Ok(place) = std::env::var(WHERE) else {
            return;
        };
        end_on_panic();
        let stage = || -> () { panic!("a stage went wrong") };
        match place.as_str() {
            "thread" => drop(std::thread::spawn(stage)),
            "task" => {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                drop(runtime.spawn(async move { stage() }));
                std::thread::sleep(Duration::from_mins(1));
            }
            "blocking" => {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                drop(runtime.spawn_blocking(stage));
                std::thread::sleep(Duration::from_mins(1));
            }
            _ => drop(std::panic::catch_unwind(stage)),
        }
        std::thread::sleep(Duration::from_mins(1));
    }

    #[test]
    fn a_panic_of_any_part_ends_the_whole() {
        for place in ["thread", "task", "blocking", "caught"] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "crash::tests::a_program_of_which_a_part_panics",
                    "--nocapture",
                ])
                .env(WHERE, place)
                .output()
                .unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{place}: {err}");
            assert!(
                err.contains("kerntally: internal error, the agent ends")
                    && err.contains("a stage went wrong at agent/kerntally/src/crash.rs:"),
                "{place}: {err}"
            );
        }
    }
}

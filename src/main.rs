//! The binary: read the command line, then do.

use std::alloc::System;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use lbctl::Cli;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::level_filters::LevelFilter;
use zeroizing_alloc::ZeroAlloc;

/// Wipes every block of memory that is freed, and what a text that grows leaves behind. `Secret`
/// does so for what it holds; this is for the copies within parsers, templates and encoders.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    // The CA's key is in memory: no core dump, and no debugger of the same user. Where that is not
    // possible, lbctl continues.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if let Some(values) = lbctl::values() {
        // Who asked may be gone.
        let _ = std::io::stdout().write_all(values.as_bytes());
        return ExitCode::SUCCESS;
    }
    let cli = match read() {
        Ok(cli) => cli,
        Err(wrong) => {
            // The text for people, with exit code 2; `--help` and `--version` end here too.
            if wrong.use_stderr() && lbctl::asks_for_json(std::env::args_os()) {
                lbctl::usage(&wrong);
            }
            wrong.exit();
        }
    };
    let level = match cli.global.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(|| lbctl::Log)
        .with_max_level(level)
        .with_ansi(lbctl::colored(cli.global.color, &std::io::stderr()))
        .with_target(false);
    if cli.global.verbose < 2 {
        log.without_time().init();
    } else {
        // Since the start.
        log.with_timer(tracing_subscriber::fmt::time::uptime())
            .init();
    }
    let exit = lbctl::run(&cli);
    // Who reads it may be gone.
    let _ = std::io::stdout().flush();
    lbctl::leave(exit as u8)
}

/// The command line. libvirt's library is asked for its version only where somebody wants to know
/// it.
fn read() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if std::env::args_os().any(|word| word == "--version") {
        command = command.long_version(lbctl::version());
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|wrong| wrong.format(&mut command))
}

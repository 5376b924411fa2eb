//! The binary: read the command line, then do.

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
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
    let cli = Cli::parse();
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
    log.without_time().init();
    ExitCode::from(lbctl::run(&cli) as u8)
}

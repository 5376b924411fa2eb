//! The binary: read the command line, then do.

use std::process::ExitCode;

use clap::Parser;
use lbctl::cli::Cli;
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.global.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false);
    log.without_time().init();
    ExitCode::from(lbctl::commands::run(&cli) as u8)
}

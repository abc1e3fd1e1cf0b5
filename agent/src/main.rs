//! The `sextant` binary: parse, start the runtime, run one verb. Exit codes: 0 done, 1 failed, 2 wrong usage.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use sextant::cli::replay::ReplayArgs;
use sextant::cli::{Cli, Command, ConfigVerb, KeyVerb, NodeArgs, ReceiverArgs, Role};
use sextant::{app, config, telemetry};

/// Wrong usage, as clap itself exits.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Node(args) => node(&args),
        Command::Receiver(args) => receiver(&args),
        Command::Replay(args) => replay(&args),
        Command::Worker(args) => {
            Ok(if app::worker::run(&args) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::WorkloadWorker(args) => {
            app::worker::run_workload(&args).map(|()| ExitCode::SUCCESS).map_err(anyhow::Error::msg)
        }
        Command::Inspect(what) => app::inspect::run(&what).map(|()| ExitCode::SUCCESS),
        Command::Config(ConfigVerb::Check { file }) => {
            checked(config::load(Some(&file)).map(|_| "ok\n".to_owned()))
        }
        Command::Config(ConfigVerb::Dump { file }) => {
            checked(config::load(file.as_deref()).map(|c| config::dump(&c)))
        }
        Command::Key(KeyVerb::New { name, scope, json }) => {
            app::key::fresh(&name, &scope, json).and_then(|text| print(&text))
        }
        Command::Openapi { role } => print(&match role {
            Role::Node => app::node::openapi(),
            Role::Receiver => app::receiver::openapi(),
        }),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sextant", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn node(args: &NodeArgs) -> anyhow::Result<ExitCode> {
    let config = match config::for_node(args) {
        Ok(config) => config,
        Err(errors) => return wrong_usage(&errors),
    };
    if args.shared.check {
        return print(&app::check::node(&config)?);
    }
    app::node::prepare();
    let _log = telemetry::init(&config.log)?;
    runtime()?.block_on(app::node::run(config))?;
    Ok(ExitCode::SUCCESS)
}

fn receiver(args: &ReceiverArgs) -> anyhow::Result<ExitCode> {
    let config = match config::for_receiver(args) {
        Ok(config) => config,
        Err(errors) => return wrong_usage(&errors),
    };
    if args.shared.check {
        return print(&app::check::receiver(&config)?);
    }
    app::receiver::prepare();
    let _log = telemetry::init(&config.log)?;
    runtime()?.block_on(app::receiver::run(config))?;
    Ok(ExitCode::SUCCESS)
}

fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    match config::for_replay(args) {
        Ok(key) => runtime()?.block_on(app::replay::run(args, key)),
        Err(errors) => wrong_usage(&errors),
    }
}

/// Two workers: one may be busy with a large answer while the other says that all is well.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn checked(result: Result<String, config::Errors>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(text) => print(&text),
        Err(errors) => {
            complain(&errors.to_string());
            Ok(ExitCode::FAILURE)
        }
    }
}

fn wrong_usage(errors: &config::Errors) -> anyhow::Result<ExitCode> {
    complain(&errors.to_string());
    Ok(ExitCode::from(USAGE))
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn complain(text: &str) {
    for line in text.lines() {
        eprintln!("sextant: {line}");
    }
}

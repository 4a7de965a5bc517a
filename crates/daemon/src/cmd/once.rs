//! `nemotermd once`: one request frame on standard input, one reply frame on standard output.

use std::{
    io,
    time::{Duration, Instant},
};

use nemoterm_protocol::{Complete, Completion, Reply, Request, frame};

use crate::{backend::Own, complete::Plan, config::Config, failure::Failure, models};

pub fn run() -> anyhow::Result<()> {
    let request = match frame::read(&mut io::stdin().lock())? {
        Some(Request::Complete(request)) => request,
        other => anyhow::bail!("{other:?} in place of a request to complete"),
    };
    let reply = match answer(&request) {
        Ok(completion) => Reply::Completion(completion),
        Err(error) => Reply::Error(Failure::of(error).reply(Some(request.id))),
    };
    Ok(frame::write(&mut io::stdout().lock(), &reply)?)
}

/// As in the daemon: the server that is set, or the model where none is or it does not answer.
fn answer(request: &Complete) -> anyhow::Result<Completion> {
    let arrived = Instant::now();
    let plan = Plan::new(request)?;
    let config = Config::load()?;
    let deadline = (request.budget_ms > 0).then(|| arrived + Duration::from_millis(request.budget_ms));
    let remote = match Own::remote(&config) {
        Ok(None) => None,
        Ok(Some(mut own)) => {
            let written = own.write(&plan, deadline);
            Some(written.map(|written| plan.reply(&written, own.name().to_owned(), Duration::ZERO, arrived)))
        }
        Err(error) => Some(Err(Failure::of(error))),
    };
    let instead = match remote {
        Some(Ok(completion)) => return Ok(completion),
        Some(Err(failure)) => Some(Box::new(failure.reply(None))),
        None => None,
    };
    let mut own = Own::model(config.model.as_deref().unwrap_or(models::EMBEDDED), &config)?;
    let queue = arrived.elapsed();
    let written = own.write(&plan, deadline)?;
    Ok(Completion { instead, ..plan.reply(&written, own.name().to_owned(), queue, arrived) })
}

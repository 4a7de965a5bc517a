//! `nemotermd once`: one request frame on standard input, one reply frame on standard output.

use std::{
    io,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use nemoterm_engine::Generator;
use nemoterm_protocol::{Complete, Completion, Reply, Request, frame};

use crate::{
    complete::{self, Plan},
    config::Config,
    failure::Failure,
    models,
};

pub fn run() -> anyhow::Result<()> {
    let request = match frame::read(&mut io::stdin().lock())? {
        Some(Request::Complete(request)) => request,
        other => anyhow::bail!("{other:?} in place of a request to complete"),
    };
    let reply = match answer(&request) {
        Ok(completion) => Reply::Completion(completion),
        Err(failure) => Reply::Error(failure.reply(Some(request.id))),
    };
    Ok(frame::write(&mut io::stdout().lock(), &reply)?)
}

fn answer(request: &Complete) -> Result<Completion, Failure> {
    let arrived = Instant::now();
    let plan = Plan::new(request)?;
    let config = Config::load()?;
    let (name, model) = models::load(config.model.as_deref().unwrap_or(models::EMBEDDED), &config)?;
    let queue = arrived.elapsed();
    let deadline = (request.budget_ms > 0).then(|| arrived + Duration::from_millis(request.budget_ms));
    let mut on_token = |_: &nemoterm_engine::Step<'_>| match deadline {
        Some(deadline) if Instant::now() >= deadline => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let output = Generator::new(model, 1)
        .and_then(|mut generator| complete::generate(&mut generator, plan.generate(), &mut on_token))
        .map_err(|error| Failure::new(error.to_string(), "nemoterm doctor checks the model"))?;
    Ok(plan.reply(&output, name, queue, arrived))
}

//! One client's conversation.

use std::{io, sync::Arc, time::Duration};

use interprocess::local_socket::{tokio::Stream, traits::StreamCommon as _};
use nemoterm_protocol::{
    ErrorReply, Reply, Request, VERSION, Welcome,
    frame::{self, FrameError},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};

use crate::{complete, scheduler::ClientId, serve::Daemon};

/// A frame that has begun must be there after this long, and a client that does not read is given up after it.
const FRAME: Duration = Duration::from_secs(1);

/// Replies that may wait for a client to read them.
const UNREAD: usize = 16;

/// Talks to a client until it hangs up, misbehaves or the daemon ends.
pub async fn serve(stream: Stream, client: ClientId, daemon: Arc<Daemon>) {
    // A peer whose user the system does not tell is nobody we know.
    let ours = rustix::process::geteuid().as_raw();
    if stream.peer_creds().ok().and_then(|peer| peer.euid()) != Some(ours) {
        tracing::warn!("refused a client of another user");
        return;
    }
    let stream = Arc::new(stream);
    let (replies, unsent) = mpsc::channel(UNREAD);
    let writer = tokio::spawn(write(Arc::clone(&stream), unsent));
    let mut running: Option<AbortHandle> = None;
    let talk = listen(&stream, client, &daemon, replies, &mut running);
    if let Err(error) = talk.await {
        tracing::debug!(client, %error, "conversation ended");
    }
    if let Some(running) = running {
        running.abort();
    }
    // What is already said goes out, a farewell among it.
    let _ = timeout(FRAME, writer).await;
}

/// Reads requests and sees to each.
async fn listen(
    stream: &Stream,
    client: ClientId,
    daemon: &Arc<Daemon>,
    replies: mpsc::Sender<Reply>,
    running: &mut Option<AbortHandle>,
) -> Result<(), FrameError> {
    let greeting = timeout(FRAME, read(stream)).await.map_err(|_| io::ErrorKind::TimedOut)?;
    let Some(Request::Hello(_)) = report(greeting, &replies).await? else {
        return Ok(());
    };
    let welcome = Welcome {
        protocol: VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        stats: Some(daemon.counts.is_on()),
    };
    say(&replies, Reply::Welcome(welcome)).await;
    while let Some(request) = report(read(stream).await, &replies).await? {
        match request {
            Request::Hello(_) => {}
            Request::Complete(request) => {
                // The newest wins: the old task's receiver is dropped, and the worker gives its job up.
                if let Some(old) = running.take() {
                    old.abort();
                }
                let daemon = Arc::clone(daemon);
                let replies = replies.clone();
                let task = tokio::spawn(async move {
                    let reply = complete::answer(*request, client, &daemon).await;
                    say(&replies, reply).await;
                });
                *running = Some(task.abort_handle());
            }
            Request::Cancel => {
                if let Some(old) = running.take() {
                    old.abort();
                }
            }
            Request::Status => {
                // Whoever asks has perhaps just changed the configuration.
                daemon.follow().await;
                say(&replies, Reply::Status(Box::new(daemon.status()))).await;
            }
            Request::UseModel { model } => {
                let texts = daemon.http.is_on();
                let reply = match daemon.keeper.use_model(&model, texts).await {
                    Ok(()) => Reply::Status(Box::new(daemon.status())),
                    Err(failure) => Reply::Error(failure.reply(None)),
                };
                say(&replies, reply).await;
            }
            Request::Count(counted) => daemon.counts.add(&counted),
            Request::Stats { reset } => {
                if reset {
                    daemon.counts.reset();
                }
                say(&replies, Reply::Stats(Box::new(daemon.counts.stats()))).await;
            }
            Request::Unload => {
                daemon.keeper.rest().await;
                say(&replies, Reply::Status(Box::new(daemon.status()))).await;
            }
            Request::Stop => {
                say(&replies, Reply::Stopping).await;
                daemon.stop();
            }
        }
    }
    Ok(())
}

/// Tells the client what is wrong with its frame before the conversation ends over it.
async fn report(
    read: Result<Option<Request>, FrameError>,
    replies: &mpsc::Sender<Reply>,
) -> Result<Option<Request>, FrameError> {
    if let Err(error @ (FrameError::TooLong(_) | FrameError::Malformed(_))) = &read {
        say(replies, Reply::Error(ErrorReply { id: None, message: error.to_string(), hint: None })).await;
    }
    read
}

async fn say(replies: &mpsc::Sender<Reply>, reply: Reply) {
    // The writer is gone where the client is.
    let _ = replies.send(reply).await;
}

/// Reads one request; `None` where the client hung up between two frames. The client may take all the time it
/// wants before a frame, and little within it.
async fn read(mut stream: &Stream) -> Result<Option<Request>, FrameError> {
    let mut header = [0; frame::HEADER];
    let first = stream.read(&mut header).await?;
    if first == 0 {
        return Ok(None);
    }
    let rest = async {
        stream.read_exact(&mut header[first..]).await?;
        let mut body = vec![0; frame::body_length(header)?];
        stream.read_exact(&mut body).await?;
        frame::decode(&body)
    };
    timeout(FRAME, rest).await.map_err(|_| io::ErrorKind::TimedOut)?.map(Some)
}

/// Sends replies, one whole frame after the other.
async fn write(stream: Arc<Stream>, mut unsent: mpsc::Receiver<Reply>) {
    while let Some(reply) = unsent.recv().await {
        let Ok(frame) = frame::encode(&reply) else {
            tracing::warn!("a reply did not fit a frame");
            continue;
        };
        match timeout(FRAME, (&*stream).write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

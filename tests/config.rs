//! Settings: the file, the variables, and the daemon that takes them.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
};

use crate::util::{
    eventually,
    intact::{Intact, refused},
    sandbox::{Printed, Sandbox, printed},
};

/// A home with `nemoterm config` in it.
struct Place {
    sandbox: Sandbox,
}

impl Place {
    fn new() -> Self {
        Self { sandbox: Sandbox::new() }
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Printed {
        let mut command = self.sandbox.command(crate::util::nemoterm());
        printed(command.args(args).envs(env.iter().copied()).output().unwrap())
    }

    /// Standard output of a command that has to succeed.
    #[track_caller]
    fn config(&self, args: &[&str]) -> String {
        let printed = self.run(&[&["config"], args].concat(), &[]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        printed.stdout
    }

    /// What a command that has to succeed says on standard error.
    #[track_caller]
    fn says(&self, args: &[&str]) -> String {
        let printed = self.run(&[&["config"], args].concat(), &[]);
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), ""), "{}", printed.stderr);
        printed.stderr
    }

    fn file(&self) -> PathBuf {
        self.sandbox.home().join(".config/nemoterm/config.toml")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn read(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }
}

#[test]
fn values_and_origins_are_shown() {
    let place = Place::new();
    let path = place.file().display().to_string();
    assert_eq!(place.config(&["path"]), format!("{path}\n"));
    assert!(place.config(&["show"]).contains("model            nemoterm-mini\n"));
    assert_eq!(place.config(&["get", "idle_minutes"]), "60\n");
    assert_eq!(place.config(&["get", "quantize"]), "");
    assert!(!place.file().exists(), "looking makes no file");

    place.write("# mine\nthreads = 2\n");
    let shown = place.run(&["config", "show", "--origin"], &[("NEMOTERM_IDLE_MINUTES", "7")]).stdout;
    let rows: Vec<Vec<_>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["model", "nemoterm-mini", "default"]);
    assert_eq!(rows[2], ["threads", "2", &format!("{path},"), "line", "2"]);
    assert_eq!(rows[6], ["idle_minutes", "7", "NEMOTERM_IDLE_MINUTES"]);
    let json: serde_json::Value = serde_json::from_str(&place.config(&["show", "--json"])).unwrap();
    assert_eq!(
        json[2],
        serde_json::json!({"key": "threads", "value": "2", "origin": format!("{path}, line 2")})
    );
}

#[test]
fn the_file_is_made_and_changed_with_its_comments() {
    let place = Place::new();
    assert!(place.says(&["set", "threads", "2"]).contains("threads = 2 is written to"));
    let made = place.read();
    assert!(made.starts_with("# nemoterm's configuration") && made.ends_with("\nthreads = 2\n"), "{made}");
    place.write("# mine\nthreads = 2 # cores\n\nidle_minutes = 5\n");
    place.config(&["set", "threads", "1"]);
    place.config(&["set", "http", "localhost:8000"]);
    place.config(&["unset", "idle_minutes"]);
    assert_eq!(place.read(), "# mine\nthreads = 1 # cores\n\nhttp = \"localhost:8000\"\n");
    // A model is named by its whole path, whichever directory it was named in.
    let model = place.sandbox.copy_of_model("my model");
    place.config(&["set", "model", "my model"]);
    assert_eq!(place.config(&["get", "model"]), format!("{}\n", model.display()));
    // And `model use` keeps the rest.
    assert_eq!(place.run(&["model", "use", "nemoterm-mini", "--quantize", "q8_0"], &[]).code, Some(0));
    let text = place.read();
    assert_eq!(text, "# mine\nthreads = 1 # cores\n\nhttp = \"localhost:8000\"\nquantize = \"q8_0\"\n");
    assert!(place.says(&["unset", "idle_minutes"]).contains("is not set"));
    let hidden = place.run(&["config", "set", "threads", "2"], &[("NEMOTERM_THREADS", "1")]);
    assert!(hidden.stderr.contains("note: NEMOTERM_THREADS is set here"), "{}", hidden.stderr);
}

/// A way to break a configuration: arguments after `config`, variables, and what is said about it. `edit` runs the script that
/// `EDIT` holds, on the file as `$0`.
type Way = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str, &'static str);

const WAYS: &[Way] = &[
    // A value that its key does not allow.
    (
        &["set", "threads", "two"],
        &[],
        "threads can't be \"two\"; allowed is a whole number from 1 to 1024",
        "config set threads",
    ),
    (&["set", "threads", "-1"], &[], "threads can't be \"-1\"", "config set threads"),
    (&["set", "quantize", "q5"], &[], "allowed is q8_0, q4_0, q4_k or q6_k", "config set quantize"),
    (&["set", "stats", "no"], &[], "allowed is on or off", "config set stats"),
    (&["set", "gpu_memory", "6 GB"], &[], "allowed is a whole number from 0 to", "config set gpu_memory"),
    (&["set", "unload_minutes", "never"], &[], "allowed is a whole number", "config set unload_minutes"),
    (&["set", "http", "8000"], &[], "allowed is an address and a port, such as 127.0.0.1:8000", "set http"),
    (&["set", "remote_url", "ftp://gpu/v1"], &[], "allowed is an http or https URL", "set remote_url"),
    (&["set", "remote_key_env", "sk-123"], &[], "remote_key_env can't be this", "set remote_key_env"),
    // One that is allowed and does not work.
    (&["set", "http", "0.0.0.0:8000"], &[], "no token is set", "NEMOTERM_HTTP_TOKEN"),
    (&["set", "http_token_file", "/no/such"], &[], "/no/such can't be read", "http_token_file"),
    (&["set", "model", "nosuch"], &[], "no model is called nosuch", "nemoterm model list"),
    (&["set", "model", "o/absent"], &[], "has not been fetched", "nemoterm model pull o/absent"),
    (&["set", "model", "empty"], &[], "config.json", "nemoterm model list"),
    (&["set", "backend", "openai"], &[], "needs remote_url as well", "config set remote_url"),
    // A key that there is not.
    (
        &["set", "colour", "red"],
        &[],
        "there is no key \"colour\"; known are model, quantize,",
        "nemoterm config show",
    ),
    (&["get", "colour"], &[], "no key \"colour\"", "nemoterm config show"),
    (&["unset", "colour"], &[], "no key \"colour\"", "nemoterm config show"),
    // A variable.
    (
        &["show"],
        &[("NEMOTERM_THREADS", "many")],
        "NEMOTERM_THREADS: threads can't be \"many\"",
        "unset NEMOTERM_THREADS",
    ),
    // What is written in an editor, and the editor.
    (
        &["edit"],
        &[("EDIT", "echo idle_minutes = soon")],
        "draft.toml, line 1: ",
        "config edit goes on with what you wrote",
    ),
    (
        &["edit"],
        &[("EDIT", "echo; echo colour = 1")],
        "draft.toml, line 2: there is no key \"colour\"",
        "config edit goes on",
    ),
    (
        &["edit"],
        &[("EDIT", "echo threads = 1; echo threads = 2")],
        "draft.toml, line 2: duplicate key",
        "config edit goes on",
    ),
    (
        &["edit"],
        &[("EDIT", "echo model = '\"nosuch\"'")],
        "no model is called nosuch",
        "config edit goes on with what you wrote",
    ),
    (&["edit"], &[("EDIT", "exit 3")], "failed (exit status: 3)", "set EDITOR"),
    (&["edit"], &[("EDITOR", "false")], "the editor false failed", "set EDITOR"),
];

#[test]
fn every_way_to_break_a_configuration_says_what_to_do_and_changes_nothing() {
    let place = Place::new();
    place.write("# mine\nthreads = 2\n");
    assert_eq!(place.run(&["daemon", "start"], &[]).code, Some(0));
    let daemon = place.sandbox.daemon_pid();
    fs::create_dir(place.sandbox.home().join("empty")).unwrap();
    let intact = Intact::of(place.sandbox.home());
    assert!(WAYS.len() >= 25);
    for (args, env, message, hint) in WAYS {
        let way = format!("{} {env:?}", args.join(" "));
        let mut env = env.to_vec();
        let editor = env.iter().find(|(name, _)| *name == "EDIT").map(|(_, script)| {
            format!("sh -c 'text=$({}) || exit; echo \"$text\" >\"$0\"'", script.replace('\'', "'\\''"))
        });
        env.extend(editor.as_deref().map(|editor| ("EDITOR", editor)));
        refused(&place.run(&[&["config"], *args].concat(), &env), &way, message, hint);
        let draft = place.file().with_file_name("config.draft.toml");
        intact.check(&way, |path| draft.ends_with(path));
        // What was written is kept where it has to be put right.
        assert_eq!(draft.exists(), hint.contains("goes on"), "{way}");
        if draft.exists() {
            fs::remove_file(draft).unwrap();
        }
    }
    assert_eq!(place.sandbox.daemon_pid(), daemon);
    assert_eq!(place.run(&["complete", "find . -name"], &[]).code, Some(0));
}

#[test]
fn a_wrong_file_gives_the_same_error_everywhere_and_can_be_mended() {
    let place = Place::new();
    place.write("# mine\nthreads = \"two\"\n");
    let message = format!(
        "{}, line 2: threads can't be \"two\"; allowed is a whole number from 1 to 1024, such as 4",
        place.file().display()
    );
    for args in [
        &["config", "show"][..],
        &["model", "list"],
        &["daemon", "start"],
        &["complete", "find . -name"],
        &["complete", "--no-daemon", "find . -name"],
    ] {
        refused(&place.run(args, &[]), "a wrong file", &message, "nemoterm config set threads");
    }
    let mended = place.says(&["set", "threads", "1"]);
    assert!(mended.contains("the running daemon has taken it"), "{mended}");
    assert_eq!(place.run(&["complete", "find . -name"], &[]).code, Some(0));
    place.write("colour = 1\n");
    refused(
        &place.run(&["config", "get", "threads"], &[]),
        "an unknown key",
        "line 1: there is no key \"colour\"",
        "unset colour",
    );
    place.config(&["unset", "colour"]);
    place.config(&["get", "threads"]);
    place.write("threads =\n");
    refused(
        &place.run(&["config", "set", "threads", "1"], &[]),
        "no TOML",
        "config.toml, line 1: ",
        "nemoterm config edit",
    );
}

#[test]
fn a_draft_is_edited_until_it_can_be_used() {
    let place = Place::new();
    let edit = |editor: &str| place.run(&["config", "edit"], &[("EDITOR", editor)]);
    assert_eq!(edit("true").code, Some(0));
    assert!(place.read().starts_with("# nemoterm's configuration"), "there is something to edit");
    assert_eq!(edit("true").stderr, "nothing has changed\n");
    assert_eq!(edit("sh -c 'echo idle_minutes = 5 >\"$0\"'").code, Some(0));
    assert_eq!(place.config(&["get", "idle_minutes"]), "5\n");
    // What is wrong stays a draft, and the next time goes on with it.
    let wrong = edit("sh -c 'echo idle_minutes = soon >\"$0\"'");
    refused(&wrong, "a wrong value", "config.draft.toml, line 1: ", "nemoterm config edit goes on");
    assert_eq!(place.config(&["get", "idle_minutes"]), "5\n");
    let mended = edit("sed -i s/soon/7/");
    assert_eq!(mended.code, Some(0), "{}", mended.stderr);
    assert!(mended.stderr.starts_with("going on with "), "{}", mended.stderr);
    assert_eq!(place.config(&["get", "idle_minutes"]), "7\n");
    assert!(!place.file().with_file_name("config.draft.toml").exists());
    // Nobody's change is lost.
    let other =
        format!("sh -c 'echo threads = 1 >\"$0\"; echo idle_minutes = 8 >{}'", place.file().display());
    refused(&edit(&other), "another change", "has changed while you edited", "nemoterm config edit goes on");
    assert_eq!(place.read(), "idle_minutes = 8\n");
    let visual = [("VISUAL", "sh -c 'echo threads = 2 >\"$0\"'"), ("EDITOR", "false")];
    assert_eq!(place.run(&["config", "edit"], &visual).code, Some(0));
    assert_eq!(place.read(), "threads = 2\n");
}

#[test]
fn a_running_daemon_takes_what_it_can() {
    let place = Place::new();
    assert_eq!(place.run(&["daemon", "start"], &[]).code, Some(0));
    let status = || -> serde_json::Value {
        serde_json::from_str(&place.run(&["daemon", "status", "--json"], &[]).stdout).unwrap()
    };
    let pid = status()["pid"].clone();
    assert!(place.says(&["set", "quantize", "q8_0"]).contains("the running daemon has taken it"));
    assert_eq!(status()["model"]["quantisation"], "Q8_0");
    let model = place.sandbox.copy_of_model("other");
    place.config(&["set", "model", model.to_str().unwrap()]);
    assert_eq!(status()["model"]["name"], "other");
    place.config(&["unset", "model"]);
    assert_eq!(status()["model"]["name"], "nemoterm-mini");
    assert!(place.says(&["set", "idle_minutes", "0"]).contains("the running daemon has taken it"));
    assert!(place.says(&["set", "unload_minutes", "30"]).contains("the running daemon has taken it"));
    assert!(place.says(&["set", "gpu_memory", "0"]).contains("the running daemon has taken it"));
    assert_eq!(status()["pid"], pid, "it is still the same");
}

#[test]
fn http_comes_and_goes_while_the_daemon_runs() {
    let place = Place::new();
    assert_eq!(place.run(&["daemon", "start"], &[]).code, Some(0));
    let status = || -> serde_json::Value {
        serde_json::from_str(&place.run(&["daemon", "status", "--json"], &[]).stdout).unwrap()
    };
    let pid = status()["pid"].clone();
    assert!(place.says(&["set", "http", "127.0.0.1:0"]).contains("HTTP is served on http://127.0.0.1:"));
    let served = status()["http"].as_str().unwrap().to_owned();
    let answers = |address: &str| {
        let mut stream = TcpStream::connect(address).ok()?;
        write!(stream, "GET /v1/models HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned)
    };
    assert_eq!(answers(&served).as_deref(), Some("HTTP/1.1 200 OK"));
    assert_eq!(status()["http"], served.as_str(), "it stays while nothing changes");
    // Another address is another server, and what was open ends.
    let mut open = TcpStream::connect(&served).unwrap();
    let token = place.sandbox.home().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    assert!(place.says(&["set", "http_token_file", token.to_str().unwrap()]).contains("HTTP is served on"));
    let guarded = status()["http"].as_str().unwrap().to_owned();
    assert_eq!(answers(&guarded).as_deref(), Some("HTTP/1.1 401 Unauthorized"));
    open.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = open.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    // A port that is taken is told, and shells are served all the same.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let told = place.says(&["set", "http", &address]);
    assert!(told.contains(&format!("note: {address} can't be listened on")), "{told}");
    assert_eq!(place.run(&["complete", "find . -name"], &[]).code, Some(0));
    drop(taken);
    eventually("it to be tried again", || status()["http"] == address.as_str());
    assert!(place.says(&["unset", "http"]).contains("HTTP is not served"));
    assert!(TcpStream::connect(&address).is_err());
    assert_eq!(status()["pid"], pid, "it is still the same");
}

#[test]
fn variables_reach_the_daemon_they_are_set_for() {
    let place = Place::new();
    let model = place.sandbox.copy_of_model("other");
    let started = place.run(&["daemon", "start"], &[("NEMOTERM_MODEL", model.to_str().unwrap())]);
    assert!(started.stderr.contains("with model other"), "{}", started.stderr);
}

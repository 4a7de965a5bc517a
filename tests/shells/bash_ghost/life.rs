//! Clients, daemons and shells that come, go, hang and are turned off.

use std::fs;

use nemoterm_protocol::Complete;
use rustix::process::{Pid, Signal};

use super::{look_for_builtin, start, start_program, wait_plain};
use crate::shells::{ALT_RIGHT, CTRL_SPACE, LEFT, RIGHT, knowing};
use crate::util::{
    copy_program, eventually,
    fake::{Answer, Fake},
    home::Home,
    nemoterm,
    terminal::Terminal,
};

#[test]
fn typing_is_normal_without_a_daemon_with_a_hung_one_and_with_a_mad_one() {
    let answers: [fn(&Complete) -> Answer; 4] = [
        |_| Answer::Silence,
        |_| Answer::HangUp,
        |_| Answer::Bytes(vec![0xff; 64]),
        |_| Answer::Bytes(b"\x05\0\0\0{nope".to_vec()),
    ];
    for answer in answers {
        let home = Home::new();
        let _daemon = Fake::start(home.runtime(), answer);
        let Some(terminal) = start(&home, "") else { return };
        typed_lines(&terminal);
    }
    let home = Home::new();
    let Some(terminal) = start(&home, "") else { return };
    typed_lines(&terminal);
}

/// Types lines of which none begins like another, and runs them.
fn typed_lines(terminal: &Terminal) {
    let lines = ["echo one", ": two", "printf 'three\\n'", "pwd >/dev/null", "let four=4"];
    let mut expected = vec!["ready".to_owned()];
    for line in lines {
        terminal.type_slowly(line);
        expected.push(format!("> {line}"));
        terminal
            .wait("the line as it was typed", |screen| screen.rows == expected && screen.ghost.is_empty());
        terminal.send("\r");
        expected.extend(match line {
            "echo one" => Some("one".to_owned()),
            "printf 'three\\n'" => Some("three".to_owned()),
            _ => None,
        });
        let row = expected.len() as u16;
        terminal.wait("the next prompt", |screen| screen.cursor == (row, 2));
    }
    expected.push(">".to_owned());
    assert_eq!(terminal.screen().rows, expected);
}

#[test]
fn a_killed_daemon_is_found_again() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo first"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo fi");
    terminal.wait_ghost("rst");
    drop(daemon);
    terminal.send("\x15echo wi");
    wait_plain(&terminal, "> echo wi");
    let _daemon = knowing(&home, &["echo without"]);
    terminal.send("t");
    terminal.wait_ghost("hout");
    assert_eq!(terminal.screen().rows, ["ready", "> echo without"], "nothing was printed");
}

#[test]
fn a_dead_or_stopped_client_costs_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    for signal in [Signal::STOP, Signal::KILL] {
        let Some(mut terminal) = start(&home, "") else { return };
        terminal.send("echo a");
        terminal.wait_ghost("bc");
        let client = client_of(terminal.pid());
        rustix::process::kill_process(client, signal).unwrap();
        terminal.send("\x15");
        terminal.wait_row(">");
        typed_lines(&terminal);
        rustix::process::kill_process(client, Signal::CONT).ok();
        // It ends with its shell, whatever it was doing.
        terminal.send("exit\r");
        terminal.wait_end();
        eventually("the client ends", || rustix::process::test_kill_process(client).is_err());
    }
}

#[test]
fn scripts_may_use_any_descriptor() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    // Every number we could have is closed, and taken by a file.
    terminal.send("\x15for fd in {3..99}; do eval \"exec $fd>&-; exec $fd>>~/log\"; done; clear\r");
    terminal.wait("an empty screen", |screen| screen.rows == [">"] && screen.cursor == (0, 2));
    terminal.send("echo a");
    wait_plain(&terminal, "> echo a");
    terminal.send("bc\r");
    terminal.wait_output("abc");
    assert_eq!(fs::read(home.path().join("log")).unwrap(), b"", "we wrote to somebody's file");
    terminal.send("echo >&64 and theirs is still open\r");
    eventually("their file is written", || {
        fs::read(home.path().join("log")).unwrap() == b"and theirs is still open\n"
    });
}

/// The `nemoterm attach` of a shell.
fn client_of(shell: u32) -> Pid {
    let mut found = None;
    eventually("a client of the shell", || {
        found = fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            command.contains(&format!("attach bash --pid {shell} ")).then_some(pid)
        });
        found.is_some()
    });
    Pid::from_raw(found.unwrap()).unwrap()
}

#[test]
fn lines_that_are_not_commands_have_no_ghost() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("read -e -p 'name: ' name\r");
    terminal.wait_row("name:");
    terminal.send("echo a");
    terminal.wait_row("name: echo a");
    terminal.send("\r");
    terminal.wait_row(">");
    terminal.send("read -e -t 0.2 name\r");
    terminal.wait("the end of the time", |screen| screen.cursor == (4, 2) && screen.last_row() == ">");
    assert!(!daemon.requests().iter().any(|request| request.line == "echo a"));
}

#[test]
fn a_shell_that_waits_ends_when_its_time_is_over() {
    let home = Home::new();
    let Some(mut terminal) = start(&home, "TMOUT=1") else { return };
    terminal.wait_end();
}

#[test]
fn a_shell_that_hangs_up_ends_while_it_waits() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(mut terminal) = start(&home, "") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    let (shell, client) = (Pid::from_raw(terminal.pid() as i32).unwrap(), client_of(terminal.pid()));
    rustix::process::kill_process(shell, Signal::HUP).unwrap();
    terminal.wait_end();
    eventually("the client ends", || rustix::process::test_kill_process(client).is_err());
}

#[test]
fn a_subshell_that_reads_sees_no_ghost() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("( read -e -p 'sub: ' line; echo \"got $line\" )\r");
    terminal.wait_row("sub:");
    terminal.send("echo a\r");
    terminal.wait_output("got echo a");
    assert!(daemon.requests().iter().all(|request| request.line != "echo a"));
    // And this shell's client still answers this shell.
    terminal.send("echo a");
    terminal.wait_ghost("bc");
}

#[test]
fn commands_bound_to_keys_run_as_ever() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let rc = r#"add() { READLINE_LINE+=b READLINE_POINT=${#READLINE_LINE}; }; say() { echo said; }
bind -x '"\C-t": add'; bind -x '"\C-y": say'; bind -x '"\C-f": add'"#;
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x14");
    terminal.wait_ghost("c");
    terminal.send("\x19");
    terminal
        .wait("the output", |screen| screen.rows == ["ready", "said", "> echo abc"] && screen.ghost == "c");
    // A key of ours that the user's command was on.
    terminal.send("x\x06");
    wait_plain(&terminal, "> echo abxb");
}

#[test]
fn turned_off_in_this_shell() {
    let home = Home::new();
    let daemon = knowing(&home, &["echo abc", "echo xyz"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send("NEMOTERM_OFF=1\r");
    terminal.wait("a prompt", |screen| screen.cursor == (2, 2));
    terminal.send("echo a");
    terminal.wait_row("> echo a");
    terminal.send("\x15NEMOTERM_OFF=\r");
    terminal.wait("a prompt", |screen| screen.cursor == (3, 2));
    terminal.send("echo x");
    terminal.wait_ghost("yz");
    let lines: Vec<_> = daemon.requests().into_iter().map(|request| request.line).collect();
    assert!(!lines.contains(&"echo a".to_owned()), "{lines:?}");
}

#[test]
fn evaluating_it_twice_changes_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send(format!("eval \"$({} init bash)\"; clear\r", nemoterm().display()));
    terminal.wait("a prompt", |screen| screen.rows == [">"] && screen.cursor == (0, 2));
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    terminal.send(format!("{LEFT}{RIGHT}{RIGHT}"));
    wait_plain(&terminal, "> echo abc def");
}

#[test]
fn where_install_sh_puts_it_the_builtin_is_found() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let builtin = look_for_builtin();
    let (program, lib) = (home.path().join("bin/nemoterm"), home.path().join("lib/nemoterm"));
    fs::create_dir(program.parent().unwrap()).unwrap();
    fs::create_dir_all(&lib).unwrap();
    copy_program(nemoterm(), &program);
    fs::copy(&builtin, lib.join(builtin.file_name().unwrap())).unwrap();
    let Some(terminal) = start_program(&home, &program, "", 24, 80) else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
}

#[test]
fn a_builtin_that_is_none_leaves_the_hotkey() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let none = home.write("none.so", "no library");
    let Some(terminal) = start(&home, &format!("NEMOTERM_BASH_BUILTIN={}", none.display())) else { return };
    terminal.send("echo a");
    wait_plain(&terminal, "> echo a");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost("bc");
}

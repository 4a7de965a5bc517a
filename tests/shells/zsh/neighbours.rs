//! What lives in the same shell: vi mode, completion, other plugins, the integration itself.

use std::time::{Duration, Instant};

use super::{start, wait_plain};
use crate::shells::{ALT_RIGHT, CTRL_SPACE, LEFT, RIGHT, knowing};
use crate::util::{
    eventually,
    fake::{Answer, Fake},
    find_file,
    home::Home,
    nemoterm,
};

#[test]
fn vi_mode_keeps_its_escape() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc"]);
    let Some(terminal) = start(&home, "bindkey -v; KEYTIMEOUT=1") else { return };
    terminal.send("echo a");
    terminal.wait_ghost("bc");
    terminal.send("\x1b");
    wait_plain(&terminal, "> echo a");
    // Command mode: to the first character, and change a word.
    terminal.send("0cwprint");
    wait_plain(&terminal, "> print a");
    terminal.send("\x1bddiecho a");
    terminal.wait_ghost("bc");
    terminal.send(RIGHT);
    wait_plain(&terminal, "> echo abc");
}

#[test]
fn completion_menus_and_history_search_show_no_ghost() {
    let home = Home::new();
    home.write("work/documents/x", "");
    home.write("work/downloads/x", "");
    let _daemon = knowing(&home, &["ls dozens of files"]);
    let rc = "autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' menu select";
    let Some(terminal) = start(&home, rc) else { return };
    terminal.send("ls do");
    terminal.wait_ghost("zens of files");
    terminal.send("\t");
    terminal.wait("the matches", |screen| screen.text().contains("documents/  downloads/"));
    assert_eq!(terminal.screen().rows[1], "> ls do");
    terminal.send("\t");
    let screen = terminal.wait("a match in the line", |screen| screen.rows[1] == "> ls documents/");
    assert_eq!(screen.ghost, "");
    terminal.send("\t");
    terminal.wait("the next match", |screen| screen.rows[1] == "> ls downloads/" && screen.ghost.is_empty());
    terminal.send("\r");
    wait_plain(&terminal, "> ls downloads/");
    terminal.send("\x15echo searchable\r");
    terminal.wait_output("searchable");
    terminal.send("ls do");
    terminal.wait_ghost("zens of files");
    terminal.send("\x12sea");
    let screen = terminal.wait("the search", |screen| screen.text().contains("bck-i-search: sea"));
    assert!(screen.ghost.is_empty(), "{screen:?}");
    assert!(screen.rows.contains(&"> echo searchable".to_owned()), "{screen:?}");
}

#[test]
fn an_answer_that_comes_after_tab_or_in_a_search_is_not_shown() {
    for (key, shown) in [("\t", "documents/  downloads/"), ("\x12", "bck-i-search: ")] {
        let home = Home::new();
        home.write("work/documents/x", "");
        home.write("work/downloads/x", "");
        let daemon = Fake::start(home.runtime(), |request| match request.line.as_str() {
            "ls do" => Answer::Late(Duration::from_millis(200), vec!["zens".to_owned()]),
            "ls dow" => Answer::suffix(" last"),
            _ => Answer::Silence,
        });
        let Some(terminal) = start(&home, "autoload -Uz compinit; compinit -u -D") else { return };
        terminal.send("ls do");
        daemon.wait_line("ls do");
        terminal.send(key);
        terminal.wait("what the key shows", |screen| screen.text().contains(shown.trim_end()));
        eventually("the answer", || daemon.answered() == 1);
        // Long enough for the answer to be on the screen, if it were to be.
        let since = Instant::now();
        eventually("a while", || since.elapsed() > Duration::from_millis(150));
        assert_eq!(terminal.screen().ghost, "");
        // Ctrl-G ends the search and keeps the line.
        terminal.send(if key == "\t" { "w" } else { "\x07w" });
        terminal.wait_ghost(" last");
        assert!(!terminal.ghosts().iter().any(|ghost| ghost == "zens"), "{:?}", terminal.ghosts());
    }
}

#[test]
fn with_zsh_syntax_highlighting() {
    let Some(plugin) = find_file(&["/usr/share/zsh-syntax-highlighting/zsh-syntax-highlighting.zsh"]) else {
        return;
    };
    for before in [true, false] {
        let home = Home::new();
        let _daemon = knowing(&home, &["echo abc def"]);
        let source = format!("source {}", plugin.display());
        // It asks to be loaded last; the other order happens.
        let rc = if before { source.clone() } else { String::new() };
        let Some(terminal) = start(&home, &rc) else { return };
        if !before {
            terminal.send(format!("{source}; clear; print ready\r"));
            terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
        }
        terminal.send("echo ab");
        terminal.wait_ghost("c def");
        terminal.send("c");
        terminal.wait_ghost(" def");
        terminal.send(ALT_RIGHT);
        wait_plain(&terminal, "> echo abc def");
        terminal.send("\r");
        terminal.wait_output("abc def");
    }
}

#[test]
fn with_zsh_autosuggestions_that_plugin_draws() {
    let Some(plugin) = find_file(&["/usr/share/zsh-autosuggestions/zsh-autosuggestions.zsh"]) else { return };
    for before in [true, false] {
        let home = Home::new();
        let daemon = knowing(&home, &["echo abc def", "echo xyz"]);
        let source = format!("source {}", plugin.display());
        let rc = if before { source.clone() } else { String::new() };
        let Some(terminal) = start(&home, &rc) else { return };
        if !before {
            terminal.send(format!("{source}; clear; print ready\r"));
            terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
        }
        terminal.type_slowly("echo ab");
        terminal.wait_ghost("c def");
        terminal.send(RIGHT);
        wait_plain(&terminal, "> echo abc def");
        terminal.send("\x15");
        terminal.wait_row(">");
        terminal.send("echo x");
        terminal.wait_ghost("yz");
        assert!(daemon.requests().iter().all(|request| request.context.shell == "zsh"));
        terminal.send("\r");
        terminal.wait("the next prompt", |screen| screen.rows == ["ready", "> echo x", "x", ">"]);
    }
}

#[test]
fn options_of_all_kinds() {
    // Not those that zsh's own hooks do not survive, such as shglob.
    let options = "setopt ksharrays shwordsplit globsubst warncreateglobal nounset noclobber nullglob extendedglob \
                   localtraps rcquotes ignorebraces";
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def", "echo abx *"]);
    // Set when everything is evaluated, so that only the widgets see them.
    let Some(terminal) = start(&home, "") else { return };
    terminal.send(format!("{options}; clear; echo ready\r"));
    terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send("\x1b]");
    terminal.wait_ghost("x *");
    terminal.send("\x1b[");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    // Also where there is nothing to complete, the ghost is gone until it is asked for.
    terminal.send("\t");
    wait_plain(&terminal, "> echo abc");
    terminal.send(CTRL_SPACE);
    terminal.wait_ghost(" def");
    terminal.send("\x1b");
    wait_plain(&terminal, "> echo abc");
    terminal.send(format!("{LEFT}{RIGHT}{ALT_RIGHT}{CTRL_SPACE}"));
    terminal.wait_ghost(" def");
    terminal.send("\x03");
    terminal.wait("a new prompt", |screen| screen.rows == ["ready", "> echo abc", ">"]);
    terminal.send(format!("{CTRL_SPACE}{RIGHT}echo ab"));
    terminal.wait_ghost("c def");
    terminal.send(format!("{RIGHT}\r"));
    terminal.wait("the output", |screen| screen.rows[3..] == ["abc def", ">"]);
}

#[test]
fn evaluating_it_twice_changes_nothing() {
    let home = Home::new();
    let _daemon = knowing(&home, &["echo abc def"]);
    let Some(terminal) = start(&home, "") else { return };
    terminal.send(format!("eval \"$({} init zsh)\"; clear; print ready\r", nemoterm().display()));
    terminal.wait("a prompt", |screen| screen.rows == ["ready", ">"]);
    terminal.send("echo ab");
    terminal.wait_ghost("c def");
    terminal.send(ALT_RIGHT);
    terminal.wait_ghost(" def");
    terminal.send(format!("{LEFT}{RIGHT}{RIGHT}"));
    wait_plain(&terminal, "> echo abc def");
}

//! `nemoterm init`: what it prints can be evaluated, wherever the program lies.

use std::fs;

use crate::util::{copy_program, find, home::Home, nemoterm};

#[test]
fn the_programs_path_is_quoted_for_each_shell() {
    let home = Home::new();
    let dir = home.path().join(r#"it's a "dir" \n $HOME `x`"#);
    fs::create_dir(&dir).unwrap();
    let program = dir.join("nemoterm");
    copy_program(nemoterm(), &program);
    let show = [
        ("zsh", "print -r -- $_nemoterm_program", ["-d", "-f", "-i", "-c"].as_slice()),
        ("bash", r#"printf '%s\n' "$__nemoterm_program""#, ["--noprofile", "--norc", "-i", "-c"].as_slice()),
        ("fish", r"printf '%s\n' $_nemoterm_program", ["-i", "-c"].as_slice()),
    ];
    for (shell, show, arguments) in show {
        let Some(path) = find(shell) else { continue };
        let printed = home.command(&program).args(["init", shell]).output().unwrap();
        assert!(printed.status.success() && printed.stderr.is_empty());
        let assignment = String::from_utf8(printed.stdout).unwrap();
        let assignment =
            assignment.lines().find(|line| line.contains("_nemoterm_program") && line.contains("it"));
        let script = format!("{}\n{show}", assignment.unwrap());
        let output = home.command(path).args(arguments).arg(script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), program.to_str().unwrap(), "{shell}");
    }
}

#[test]
fn an_unknown_shell_is_named_with_a_hint() {
    let home = Home::new();
    let output = home.command(nemoterm()).args(["init", "tcsh"]).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    let message = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines.len(), 2, "{message}");
    assert!(lines[0].contains("tcsh") && lines[1].starts_with("hint: "), "{message}");
}

#[test]
fn what_is_evaluated_without_a_prompt_does_nothing() {
    let home = Home::new();
    for shell in ["zsh", "bash", "fish"] {
        let Some(path) = find(shell) else { continue };
        let init = home.command(nemoterm()).args(["init", shell]).output().unwrap().stdout;
        let script = home.write("script", &(String::from_utf8(init).unwrap() + "\necho done\n"));
        let output = home.command(path).arg(script).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{shell}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
    }
}

#[test]
fn the_tests_of_the_matrix_exist() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shells");
    let page = fs::read_to_string(here.join("README.md")).unwrap();
    let named: Vec<_> = page.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > 70, "{named:?}");
    for (file, test) in named {
        let source = fs::read_to_string(here.join(file).with_extension("rs")).unwrap();
        assert!(source.contains(&format!("#[test]\nfn {test}()")), "{file}.rs has no test {test}");
    }
}

# nemoterm for fish: a suggestion for the rest of the command when you ask for it.
#
#   nemoterm init fish | source
#
# Ctrl-Space shows a suggestion after the line. Then
#   Right, End, Ctrl-F, Ctrl-E    accept it
#   Alt-Right, Alt-F              accept its next word
#   Alt-], Ctrl-Space and Alt-[   show the next and the previous one
#   Esc, Ctrl-G                   dismiss it
# and every other key dismisses it and does what it always does.
#
# Settings:
#   NEMOTERM_KEY_ASK   the key, as `bind` takes it (before this is sourced; default Ctrl-Space)
#   NEMOTERM_OFF       anything but empty turns this shell's suggestions off (at any time)
# `nemoterm off` and `nemoterm on` work for all shells at once.

if status is-interactive; and test "$TERM" != dumb

set -g _nemoterm_program @NEMOTERM@

function _nemoterm_hotkey
    set -l line (commandline --current-buffer | string collect)
    test -z "$NEMOTERM_OFF" -a -n "$line"; or return 0
    commandline --paging-mode; and return 0
    set -l answer ($_nemoterm_program hotkey --shell fish --line "$line" --cursor (commandline --cursor) 2>/dev/null)
    switch "$answer[1]"
        case add
            commandline --insert -- $answer[2]
        case replace
            commandline --replace -- $answer[2]
    end
    commandline --function repaint
    for key in (string split --no-empty ' ' -- $answer[3])
        _nemoterm_key $key
    end
end

# Does what a key does, given its bytes in hexadecimal. There is no way to hand fish a key.
function _nemoterm_key
    set -l key (printf (string replace --regex --all '..' '\\\\x$0' -- $argv[1]) | string collect --no-trim-newlines)
    set -l pasted (string match --regex --groups-only '^\e\[200~([\s\S]*)\e\[201~$' -- $key | string collect)
    if test -n "$pasted"
        commandline --insert -- $pasted
        return
    end
    # Of the user's bindings and fish's own, the user's win. fish prints them so that it can read them again.
    set -l bindings (bind --mode $fish_bind_mode -- $key 2>/dev/null)
    set -l binding (string match --invert -- '*--preset*' $bindings) $bindings
    set -l words
    set -q binding[1]; and eval set words $binding[1]
    set -l commands
    if set -q words[2]
        argparse --stop-nonopt preset user k/key s/silent 'M/mode=' 'm/sets-mode=' -- $words[2..-1] 2>/dev/null; or return
        # The first is the key.
        set commands $argv[2..-1]
    end
    if not set -q commands[1]
        string match --quiet --regex '^[^[:cntrl:]]+$' -- $key; and commandline --insert -- $key
        return
    end
    for command in $commands
        if test "$command" = self-insert
            commandline --insert -- $key
        else if contains -- $command (bind --function-names)
            commandline --function $command
        else
            eval $command
        end
    end
end

function _nemoterm_bind
    set -l key -k nul
    string match --quiet --regex '^[0-3]\.' -- $version; or set key ctrl-space
    set -q NEMOTERM_KEY_ASK; and set key $NEMOTERM_KEY_ASK
    for mode in default insert
        bind --mode $mode $key _nemoterm_hotkey 2>/dev/null
    end
end
_nemoterm_bind

end

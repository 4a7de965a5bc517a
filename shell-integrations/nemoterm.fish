# nemoterm for fish: the rest of the command as ghost text while you type.
#
#   nemoterm init fish | source
#
# Keys, all of which do what they did before when there is nothing to accept:
#   what moves right or to the end (Right, Ctrl-F, End, Ctrl-E)   accept the suggestion
#   what moves right by a word (Alt-Right, Alt-F)                 accept its next word
#   Alt-] or Alt-}, Alt-{                                         next and previous suggestion (what Alt-[ sends
#                                                                 begins other keys, for whose rest fish would wait,
#                                                                 and fish from 4.1 on does so for Alt-])
#   Ctrl-Space                                                    ask now; in the middle of a line, put there what leads
#                                                                 up to the rest
#   Esc                                                           dismiss (in vi mode it leaves insert mode)
#
# Settings, to be made before this is sourced unless they say otherwise:
#   NEMOTERM_KEY_ACCEPT, NEMOTERM_KEY_WORD, NEMOTERM_KEY_NEXT, NEMOTERM_KEY_PREVIOUS, NEMOTERM_KEY_ASK,
#   NEMOTERM_KEY_DISMISS   lists of keys as `bind` takes them; an empty list binds none
#   NEMOTERM_MODE          "hotkey" suggests only when asked, and leaves every other key alone (before a prompt; default "type")
#   NEMOTERM_NEXT_COMMAND  "off" suggests nothing before something is typed (at any time)
#   NEMOTERM_OFF           anything but empty turns this shell's suggestions off (at any time)
# `nemoterm off` and `nemoterm on` work for all shells at once.
#
# How it works: one `nemoterm attach` a shell (see its source for the records) does everything that could take time.
# A key that inserts itself is bound to a function that inserts it and writes the line to the client's pipe. The
# client answers in a file and signals the shell; that draws the suggestion after the cursor, where fish knows
# nothing of it, and the next key writes over it or wipes it.
#
# A variable that is set to what a command prints costs fish a thread that wakes another one. So there is none in what
# runs at each key: the line is what it was and the key. The client knows which suggestions continue it.
#
# In fish 3 a handler of a signal sees the line as the last bound function left it, not as the keys that fish handles
# by itself did. So the line counts as known only right after a key of ours, and every binding is preceded by a
# function that wipes the ghost and forgets the line. While the history or the pager is searched, keys have to be
# fish's own, and ours are put aside until the next prompt.
#
# Signals are handled between any two commands, where fish has not drawn the line yet. Functions for keys, and those
# they call, share their variables with the handler (`--no-scope-shadowing`), which so sees whether there is a
# `_nemoterm_key`. Signals are handled once more between the end of such a function and the drawing: the status is the
# function's until then, and the last command's again when fish draws, so these functions end with one of their own.
# Where prompts are made the handler has to look at the stack, which takes longer.

if status is-interactive; and test "$TERM" != dumb

set -g _nemoterm_program @NEMOTERM@

# --- only when asked ------------------------------------------------------------------------------------------

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

# Does what a key does, given its bytes and, after `=`, its name, both in hexadecimal. There is no way to hand fish a key.
function _nemoterm_key
    set -l parts (string split = -- $argv[1])
    set -l key (_nemoterm_unhex $parts[1] | string collect --no-trim-newlines)
    set -l pasted (string match --regex --groups-only '^\e\[200~([\s\S]*)\e\[201~$' -- $key | string collect)
    if test -n "$pasted"
        commandline --insert -- $pasted
        return
    end
    # Of the user's bindings and fish's own, the user's win. fish prints them so that it can read them again.
    set -l bindings (bind --mode $fish_bind_mode -- $key 2>/dev/null)
    # fish 4 reads what terminals send, and binds keys by name.
    if set -q parts[2]; and not string match --quiet '3.*' -- $version
        set --prepend bindings (bind --mode $fish_bind_mode -- (_nemoterm_unhex $parts[2]) 2>/dev/null)
    end
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

function _nemoterm_unhex
    printf (string replace --regex --all '..' '\\\\x$0' -- $argv[1])
end

# --- the client -----------------------------------------------------------------------------------------------

# Starts the client. This takes a few milliseconds, and happens while a prompt is made.
function _nemoterm_attach
    set -l hello ($_nemoterm_program attach fish --fifo --background --pid $fish_pid 2>/dev/null </dev/null)
    set -q hello[2]; or return 1
    set -g _nemoterm_fifo $hello[1]
    # Opening a pipe that nobody reads would wait for ever. A file that is there as long as the client tells, where
    # there is such a file.
    set -g _nemoterm_alive $hello[1]
    test -e /proc/$hello[2]/fd/0; and set -g _nemoterm_alive /proc/$hello[2]/fd/0
    set -g _nemoterm_unanswered
    set -g _nemoterm_untold
end

function _nemoterm_detach
    set -e _nemoterm_fifo
    _nemoterm_forget
    _nemoterm_give_back
end

# Writes a record of a kind and a field. A client that is gone or does not read costs nothing: it is left alone before its
# pipe is full, until it signals that it reads again, as it does after every record until it is told to be quiet.
function _nemoterm_tell --no-scope-shadowing
    set -q _nemoterm_fifo; or return 1
    if not test -p $_nemoterm_fifo -a -e $_nemoterm_alive
        _nemoterm_detach
        return 1
    end
    set -q _nemoterm_unanswered[48]; and return 1
    if set -q _nemoterm_unanswered[40]
        # What brings no signal leaves room for a line, which does.
        test "$argv[1]" = quiet; and return 1
        test "$argv[1]" = event; and set -q _nemoterm_unanswered[44]; and return 1
    end
    if test "$argv[1]" != event; and set -q _nemoterm_untold[1]; and _nemoterm_tell event $_nemoterm_untold
        set -g _nemoterm_untold
    end
    # Counted in pieces of at most 1000 bytes, of which a pipe holds 64; a character has up to four.
    set -a _nemoterm_unanswered x
    if string match --quiet --regex '(?s)^.{220}' -- "$argv"
        # A record this short goes into a pipe as a whole.
        string match --quiet --regex '(?s)^.{960}' -- "$argv"; and return 1
        set -a _nemoterm_unanswered x x x
    end
    printf '%s\x1f%s\x1f%s\0' $_nemoterm_sequence $argv[1] "$argv[2]" >$_nemoterm_fifo
end

# fish's own suggestions and ours would stand in the same place.
function _nemoterm_take_over
    set -q _nemoterm_took_over; and return
    set -g _nemoterm_took_over
    set -q --global fish_autosuggestion_enabled; and set -g _nemoterm_took_over $fish_autosuggestion_enabled
    set -g fish_autosuggestion_enabled 0
end

function _nemoterm_give_back
    set -q _nemoterm_took_over; or return 0
    if set -q _nemoterm_took_over[1]
        set -g fish_autosuggestion_enabled $_nemoterm_took_over
    else
        set -e --global fish_autosuggestion_enabled
    end
    set -e _nemoterm_took_over
end

# --- what is shown --------------------------------------------------------------------------------------------

# Writes to the terminal. A signal that comes just then ends the write before anything is written, and fish says so on the
# screen instead of writing again. A terminal that takes nothing is left alone until the next prompt.
function _nemoterm_put --no-scope-shadowing
    echo -ns $argv >/dev/tty; and return
    echo -ns $argv >/dev/tty; or set -e _nemoterm_active
    commandline --function repaint
end

# Wipes the ghost. The cursor stands where it begins, or after what was typed over it.
function _nemoterm_wipe --no-scope-shadowing
    set -q _nemoterm_ghost[1]; or return 0
    set -e _nemoterm_ghost
    _nemoterm_put \e7 $_nemoterm_wipes \e8
end

function _nemoterm_forget --no-scope-shadowing
    # First, as a signal may come between any two of these.
    set -e _nemoterm_now
    _nemoterm_wipe
    set -e _nemoterm_last
end

# The client has something to show, or is asked to let us draw, or has nothing to say.
function _nemoterm_signalled --on-signal SIGURG --no-scope-shadowing
    set -l ended $status
    set -l untold
    set -q _nemoterm_unanswered[48]; and set untold yes
    set -g _nemoterm_unanswered
    set -q _nemoterm_now; and test "$fish_bind_mode" = "$_nemoterm_mode"; or return 0
    # Where nothing is typed or the line is drawn anew, the prompt may still be made, by functions that share nothing with us.
    if set -q _nemoterm_key; or test $ended = $_nemoterm_mark; or begin
            test -z "$_nemoterm_now" -o -n "$_nemoterm_anew"; and status stack-trace | string match --quiet '*called on line*'
        end
        # Another one comes when fish may have drawn the line.
        set -a _nemoterm_deferred x
        set -q _nemoterm_deferred[50]; or _nemoterm_tell nudge
        return 0
    end
    set -g _nemoterm_deferred
    set -g _nemoterm_anew
    if set -q untold[1]
        # The keys came faster than signals are handled.
        test -n "$_nemoterm_now"; and _nemoterm_tell typed "$_nemoterm_now"
        return 0
    end
    test -r $_nemoterm_fifo.reply; or return 0
    set -l reply
    # Another signal may end the first.
    read --null --list --delimiter \x1f reply <$_nemoterm_fifo.reply
    or read --null --list --delimiter \x1f reply <$_nemoterm_fifo.reply
    contains -- "$reply[1] $_nemoterm_now" "$_nemoterm_sequence $reply[2]"; or return 0
    contains -- "$reply" $_nemoterm_last; and return 0
    string match --quiet --regex '[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]' -- $reply[4]; and return 0
    set -g _nemoterm_last "$reply"
    set -g _nemoterm_replaces $reply[3]
    set -g _nemoterm_text $reply[4]
    # What is there may be longer.
    set -l before
    set -q _nemoterm_ghost[1]; and set before \e7 $_nemoterm_wipes \e8
    set -g _nemoterm_ghost $reply[8..$reply[6]]
    set -g _nemoterm_wipes $reply[$reply[7]..-1]
    functions --query _nemoterm_interrupted; or _nemoterm_arm
    set -l look \e'[90m'
    set -q NO_COLOR[1]; and test -n "$NO_COLOR"; and set look \e'[4m'
    _nemoterm_put $before $look \e7 $reply[5] \e8 \e'[0m'
end

# --- asking ---------------------------------------------------------------------------------------------------

# A Ctrl-C that comes while a function of ours runs would end that and not the line. One that waits for its signal
# is called afterwards. Commands, completions and prompts have to be ended by it, so it is there only from the first key
# on, and until there is one that may lead to these.
function _nemoterm_arm --no-scope-shadowing
    functions --query _nemoterm_interrupted; and return
    function _nemoterm_interrupted --on-signal SIGINT
        _nemoterm_forget
        # What the key does. Where fish has done so already the line is empty, and nothing happens.
        for command in $_nemoterm_cancels
            commandline --function $command
        end
    end
end

# Before what may be a command, a completion or a prompt: Ctrl-C is theirs, and a signal of the client's would end what a
# builtin of fish writes or reads just then. The client takes a file away when it sends no more; who never reads sends none.
function _nemoterm_disarm --no-scope-shadowing
    functions --erase _nemoterm_interrupted
    set -q _nemoterm_fifo; and test -e $_nemoterm_fifo.signals; and _nemoterm_tell quiet; or return 0
    for _nemoterm_turn in $_nemoterm_turns
        test -e $_nemoterm_fifo.signals; or break
    end
end

# Tells the client the line, which is known to be this.
function _nemoterm_changed --no-scope-shadowing
    set -g _nemoterm_now $argv[1]
    set -e _nemoterm_last
    set -g _nemoterm_deferred
    _nemoterm_tell typed "$argv[1]"
    return 0
end

# Looks at the line, as the commands before this one have left it.
function _nemoterm_look --no-scope-shadowing
    _nemoterm_forget
    set -q _nemoterm_fifo; and set -q _nemoterm_active; or return 0
    set -l line
    _nemoterm_read
    and test -n "$line"
    and _nemoterm_changed "$line"
    # Where a prompt is made after this, as when the window's size changes, it sees this line, and the cursor elsewhere.
    set -g _nemoterm_seen "$line"
    return 0
end

# Sets `line` to the line, and tells whether it is a single one with the cursor at its end.
function _nemoterm_read --no-scope-shadowing
    set -l cursor (commandline --cursor; commandline --current-buffer)
    set line $cursor[2..-1]
    not set -q line[2]; and test $cursor[1] -lt 1000; and string match --quiet --regex "^.{$cursor[1]}\$" -- "$line"
end

# --- keys -----------------------------------------------------------------------------------------------------

# A key that inserts itself, and expands the abbreviation before it where a second argument says so.
function _nemoterm_insert
    functions --query _nemoterm_interrupted; or _nemoterm_arm
    set -l _nemoterm_key
    # It ends the choice of a completion, as it does without us. With no suggestion of fish's this does nothing else.
    commandline --paging-mode; and commandline --function accept-autosuggestion
    if set -q argv[2]
        # What the line will be can't be told where an abbreviation is expanded, which fish 4 does at once.
        set -l expands no
        set -q _nemoterm_abbreviations[1]; and _nemoterm_may_expand; and set expands yes
        commandline --insert -- $argv[1]
        commandline --function expand-abbr
        if test $expands = yes
            _nemoterm_forget
            return $_nemoterm_mark
        end
    else
        commandline --insert -- $argv[1]
    end
    if set -q _nemoterm_now
        if contains -- $argv[1] $_nemoterm_ghost[1]
            # Typed as suggested: it is written over the ghost, of which the rest stays.
            set -e _nemoterm_ghost[1]
            set -e _nemoterm_wipes[1]
        else
            _nemoterm_wipe
        end
        _nemoterm_changed "$_nemoterm_now$argv[1]"
    else
        _nemoterm_look
    end
    return $_nemoterm_mark
end

function _nemoterm_may_expand --no-scope-shadowing
    # Those with a pattern may fit anything.
    contains -- --regex $_nemoterm_abbreviations; and return 0
    set -l line (commandline --cut-at-cursor --current-buffer)
    set -l word (string match --regex '[^\s;|&<>()]+$' -- "$line[-1]")
    contains -- "$word" $_nemoterm_abbreviations
end

function _nemoterm_backspace --no-scope-shadowing
    set -l _nemoterm_rest
    if set -q _nemoterm_now; and not set -q _nemoterm_aside; and not commandline --paging-mode
        and string match --quiet --regex '^(?<_nemoterm_rest>.*\S.*)\P{M}\p{M}*$' -- "$_nemoterm_now"
        _nemoterm_wipe
        set -g _nemoterm_backspaced $_nemoterm_now
        _nemoterm_changed "$_nemoterm_rest"
    else
        _nemoterm_forget
    end
    commandline --function backward-delete-char
    return 0
end

# Before what any other key does.
function _nemoterm_before --no-scope-shadowing
    set -q _nemoterm_now; and _nemoterm_forget
    # A prompt that is made before another key, as when the window's size changes, sees the line and the cursor as here.
    set -l line (commandline --current-buffer)
    set -g _nemoterm_seen "$line"
    return 1
end

# Before a search, into which keys have to go that only fish can put there.
function _nemoterm_put_aside --no-scope-shadowing
    _nemoterm_before
    set -q _nemoterm_aside; and return 1
    set -g _nemoterm_aside
    _nemoterm_erase_printable
    return 1
end

# Whether there is a ghost that can be accepted.
function _nemoterm_visible --no-scope-shadowing
    set -q _nemoterm_ghost[1]; and set -q _nemoterm_now; or return 1
    set -l line
    _nemoterm_read; and contains -- "$line" "$_nemoterm_now"
end

# Puts text into the line as typing it would, and never runs it.
function _nemoterm_accept --no-scope-shadowing
    _nemoterm_visible; or return 1
    set -l text (string join '' -- $_nemoterm_ghost)
    if test $_nemoterm_replaces = replace
        set text $_nemoterm_text
        commandline --replace -- $text
    else
        commandline --insert -- $text
    end
    # To be counted.
    _nemoterm_tell accept "$text"
    _nemoterm_look
end

function _nemoterm_accept_word --no-scope-shadowing
    _nemoterm_visible; or return 1
    if test $_nemoterm_replaces = replace
        _nemoterm_accept
        return 0
    end
    # Blanks, then everything up to the next blank or slash, which belongs to it.
    set -l word (string match --regex '^\s*[^\s/]*/?' -- (string join '' -- $_nemoterm_ghost))
    commandline --insert -- $word
    _nemoterm_tell accept "$word"
    # It is written over the ghost.
    set -l left (math 1 + (string length -- $word))
    set -g _nemoterm_ghost $_nemoterm_ghost[$left..-1]
    set -g _nemoterm_wipes $_nemoterm_wipes[$left..-1]
    _nemoterm_changed "$_nemoterm_now$word"
end

# Shows another suggestion. The first time, more are asked for.
function _nemoterm_next --no-scope-shadowing
    _nemoterm_visible; or return 1
    _nemoterm_tell next "$_nemoterm_now"
    return 0
end

function _nemoterm_previous --no-scope-shadowing
    _nemoterm_visible; or return 1
    _nemoterm_tell previous "$_nemoterm_now"
    return 0
end

function _nemoterm_ask_now
    if not set -q _nemoterm_fifo; or not set -q _nemoterm_active
        _nemoterm_hotkey
        return
    end
    _nemoterm_arm
    set -l _nemoterm_key
    set -l line
    _nemoterm_read
    set -l at_end $status
    if test -z "$NEMOTERM_OFF"; and not set -q line[2]; and not commandline --paging-mode
        and not string match --quiet --regex '^\s+$' -- "$line"
        if test $at_end = 0
            set -g _nemoterm_now $line
            _nemoterm_tell asked "$line"
        else
            # Nothing of ours can be drawn there.
            _nemoterm_forget
            set -e _nemoterm_key
            _nemoterm_disarm
            _nemoterm_hotkey
        end
    end
end

function _nemoterm_dismiss --no-scope-shadowing
    _nemoterm_visible; or return 1
    _nemoterm_forget
end

# --- bindings -------------------------------------------------------------------------------------------------

# What a key does: one of our functions, named without its beginning, then what the key did before, unless ours says
# that this was all.
function _nemoterm_run
    functions --query _nemoterm_interrupted; or _nemoterm_arm
    set -l _nemoterm_key
    _nemoterm_$argv[1]; and return $_nemoterm_mark
    _nemoterm_before
    set -e _nemoterm_key
    for command in $argv[2..-1]
        # fish 3 takes either functions of its own or commands for one key.
        if contains -- $command $_nemoterm_functions
            string match --quiet --regex '^complete|execute|repaint|pager' -- $command; and _nemoterm_disarm
            commandline --function $command
        else
            _nemoterm_disarm
            eval $command
        end
    end
end

# Puts our functions before everything that is bound where one types. fish prints bindings so that it can read them
# again, and so do we: a hundred at a time, as each call takes its time.
function _nemoterm_bind_keys
    set -g _nemoterm_mode default
    # fish 4 keeps the mode's keys when it goes back to others.
    test "$fish_key_bindings" != fish_default_key_bindings
    and bind --preset --mode insert '' 2>/dev/null | string match --quiet '*self-insert*'
    and set -g _nemoterm_mode insert
    set -g _nemoterm_functions (bind --function-names)
    set -g _nemoterm_users (bind --user --mode $_nemoterm_mode | string match --invert '*_nemoterm_*')
    set -g _nemoterm_bound
    set -g _nemoterm_printable
    # The user's own come first and win.
    set -l lines $_nemoterm_users (bind --preset --mode $_nemoterm_mode)
    set -l word '(?:\'(?:[^\'\\\\]|\\\\.)*\'|"(?:[^"\\\\]|\\\\.)*"|\\\\.|[^ \'"\\\\])+'
    set -l pattern "^bind (?:--preset )?(?:-s )?(?:-M \S+ )?((?:-m \S+ )?)((?:-k )?$word) (.*)\$"
    set lines (string match --regex -- $pattern $lines | string match 'bind *')
    set -l modes (string replace --regex -- $pattern '$1' $lines)
    set -l keys (string replace --regex -- $pattern '$2' $lines)
    set -l commands (string replace --regex -- $pattern '$3' $lines)
    # What Ctrl-C does, by the first of its bindings.
    set -g _nemoterm_cancels cancel-commandline
    set -l place (contains --index -- '\cc' $keys; or contains --index -- ctrl-c $keys)
    set -q place[1]; and set _nemoterm_cancels
    for command in (string split ' ' -- "$commands[$place[1]]")
        contains -- $command $_nemoterm_functions; and set --append _nemoterm_cancels $command
    end
    # fish 4 does these at once, and where it was about to wait for a key it would not draw the line again. This goes into the queue of
    # keys, before each of which it looks whether there is something to draw.
    string match --quiet '3.*' -- $version; or set --append _nemoterm_cancels repaint-mode
    # Escaped all at once, as ours are put before them.
    set -l escaped (string escape -- "_nemoterm_run before "$commands)
    set -l left $commands
    set -l bound
    set -l ours
    set -l binds
    for key in $keys
        set -l command $left[1]
        set -l bind "$modes[1]$key $escaped[1]"
        set -e left[1]
        set -e modes[1]
        set -e escaped[1]
        contains -- $key $bound; and continue
        set --append bound $key
        set -l what
        switch $command
            case self-insert 'self-insert expand-abbr'
                # Put back as long as the history is searched.
                switch $key
                    case "''"
                        # What no key stands for, as é or 日. Expanding an abbreviation, of which none ends so, lets
                        # `commandline` see the line, and the mode's prompt is ours.
                        set --append _nemoterm_printable "'' self-insert expand-abbr repaint-mode"
                    # fish 4 has names for what it can't write otherwise.
                    case '?' '\\\\?' "'?'" '"?"' space
                        set -l expands
                        test $command = self-insert; or set expands ' expand'
                        set -l inserts (string replace space "' '" -- $key)
                        set --append _nemoterm_printable "$key "(string escape -- "_nemoterm_insert $inserts$expands")
                end
                continue
            case forward-char end-of-line
                set -q NEMOTERM_KEY_ACCEPT; or set what accept
            case forward-word forward-bigword nextd-or-forward-word
                set -q NEMOTERM_KEY_WORD; or set what accept_word
            case cancel
                set -q NEMOTERM_KEY_DISMISS; or set what dismiss
            case backward-delete-char
                set what backspace
            case '*history-pager*' '*pager-toggle-search*' '*complete-and-search*'
                set what put_aside
        end
        if set -q what[1]
            set --append binds (string replace '_nemoterm_run before ' "_nemoterm_run $what " -- $bind)
        else
            set --append binds $bind
        end
        set --append ours $key
    end
    set -l free (string escape -- (string split '' -- '!"#$%&\'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~'))
    set -l inserting (string escape -- "_nemoterm_insert "$free)
    for key in $free
        contains -- $key $bound; or set --append _nemoterm_printable "$key $inserting[1]"
        set -e inserting[1]
    end
    # Keys of one's own, and those that usually do nothing.
    set -q NEMOTERM_KEY_NEXT; or set -l NEMOTERM_KEY_NEXT \e']' \e'}'
    set -q NEMOTERM_KEY_PREVIOUS; or set -l NEMOTERM_KEY_PREVIOUS \e'{'
    for what in accept accept_word next previous dismiss
        set -l setting NEMOTERM_KEY_(string replace accept_ '' -- $what | string upper)
        set -q $setting[1]; or continue
        for key in (string escape -- $$setting)
            set -l place (contains --index -- $key $keys)
            set --append binds "$key "(string escape -- "_nemoterm_run $what $commands[$place]")
            set --append ours $key
        end
    end
    eval (string join '; ' -- "bind --mode $_nemoterm_mode "$binds) 2>/dev/null
    set -g _nemoterm_bound $ours
    _nemoterm_bind_printable
    _nemoterm_bind_ask
end

function _nemoterm_bind_printable
    set -e _nemoterm_aside
    eval (string join '; ' -- "bind --mode $_nemoterm_mode "$_nemoterm_printable)
end

# Lets fish have the keys that insert themselves.
function _nemoterm_erase_printable
    eval (string join '; ' -- "bind --erase --user --mode $_nemoterm_mode "(string replace --regex '^(\'.\'|".*?"|\\\\?.|\'\') .*' '$1' -- $_nemoterm_printable)) 2>/dev/null
end

function _nemoterm_bind_ask
    set -l key -k nul
    string match --quiet --regex '^[0-3]\.' -- $version; or set key ctrl-space
    set -q NEMOTERM_KEY_ASK; and set key $NEMOTERM_KEY_ASK
    for mode in default insert
        set -q key[1]; and bind --mode $mode $key _nemoterm_ask_now 2>/dev/null
    end
end

# Gives all keys back.
function _nemoterm_unbind_keys
    set -q _nemoterm_bound; or return 0
    set -q _nemoterm_aside; or _nemoterm_erase_printable
    # What the user has bound since stays.
    set -l users (bind --user --mode $_nemoterm_mode | string match --invert '*_nemoterm_*')
    eval (string join '; ' -- "bind --erase --user --mode $_nemoterm_mode "$_nemoterm_bound) 2>/dev/null
    eval (string join '; ' -- $_nemoterm_users $users)
    set -e _nemoterm_bound
    set -e _nemoterm_bindings
    set -e _nemoterm_aside
    _nemoterm_bind_ask
end

# Binds the keys, where they are not as we left them.
function _nemoterm_look_at_keys
    set -q _nemoterm_aside; and _nemoterm_bind_printable
    set -q _nemoterm_bound
    # Switched between the keys of emacs and vi, ours would stand in the way of the new ones.
    and test "$_nemoterm_key_bindings" = "$fish_key_bindings"
    and test "$_nemoterm_bindings" = (bind --user --mode $_nemoterm_mode | string collect)
    and return 0
    _nemoterm_unbind_keys
    _nemoterm_bind_keys
    set -g _nemoterm_key_bindings "$fish_key_bindings"
    set -g _nemoterm_bindings (bind --user --mode $_nemoterm_mode | string collect)
end

# Switched between the keys of emacs and vi: ours would stand in the way of the new ones.
function _nemoterm_other_keys --on-variable fish_key_bindings
    _nemoterm_unbind_keys
end

# The mode's prompt is written after a character that no key stands for.
function _nemoterm_look_at_mode_prompt
    functions fish_mode_prompt | string match --quiet '*_nemoterm_mode*'; and return 0
    # A prompt that was copied from ours must not find itself in its place.
    set -g _nemoterm_prompts (math $_nemoterm_prompts + 1)
    set -l users
    if functions --query fish_mode_prompt
        set users _nemoterm_users_mode_prompt_$_nemoterm_prompts
        functions --copy fish_mode_prompt $users
    end
    function fish_mode_prompt --inherit-variable users --description 'nemoterm: the mode prompt, and a look at the line'
        _nemoterm_mode_prompt $users
    end
end

function _nemoterm_mode_prompt
    set -l _nemoterm_key
    set -l text
    set -q argv[1]; and set text ($argv)
    # A new window size may come between a backspace of ours and what fish does for it.
    set -l before
    test "$COLUMNS $LINES" = "$_nemoterm_size"; or set before $_nemoterm_backspaced
    set -g _nemoterm_size "$COLUMNS $LINES"
    if set -q _nemoterm_active; and test "$_nemoterm_active" = typing
        set -l line (commandline --current-buffer)
        if test "$line" != "$_nemoterm_seen"; and string match --quiet --regex '[^\x00-\x7f]$' -- "$line"
            if set -q _nemoterm_now; and set -q _nemoterm_ghost[1]; and test "$line" = "$_nemoterm_now$_nemoterm_ghost[1]"
                # Typed as suggested.
                set -e _nemoterm_ghost[1]
                set -e _nemoterm_wipes[1]
                _nemoterm_changed "$line"
            else
                _nemoterm_look
            end
        else if set -q _nemoterm_now; and contains -- "$line" $_nemoterm_now $before
            # The window has another size, or the prompt is another: fish draws the line anew, and what follows it comes after that.
            _nemoterm_wipe
            set -e _nemoterm_last
            set -g _nemoterm_anew yes
            _nemoterm_tell nudge
        else
            _nemoterm_forget
        end
        set -g _nemoterm_seen "$line"
    end
    set -q _nemoterm_active; and set -g _nemoterm_active typing
    # Before it looks whether there is something to draw fish goes to the first column, and it goes back only if there is.
    # So the mode's prompt is never the same twice.
    set -l nothing \e'[m'
    test "$_nemoterm_nothing" = "$nothing"; and set nothing \e'[0m'
    set -g _nemoterm_nothing $nothing
    if test -n "$text"
        set text[-1] "$text[-1]$nothing"
        string join \n -- $text
    else if test "$_nemoterm_shown_mode" = "$fish_bind_mode"
        # An empty one would have the whole prompt made anew; after another mode that is wanted.
        echo -n $nothing
    end
    set -g _nemoterm_shown_mode $fish_bind_mode
    return $_nemoterm_mark
end

# --- a line from its beginning to its end -----------------------------------------------------------------------

function _nemoterm_prompt --on-event fish_prompt
    set -l event $_nemoterm_status\x1f"$PWD"\x1f"$_nemoterm_ran"
    # What has no room in a record is not told.
    string match --quiet --regex '(?s)^.{950}' -- $event; and set event $_nemoterm_status\x1f"$PWD"\x1f
    set -l ran $_nemoterm_ran
    set -g _nemoterm_ran
    # Never that of the last command.
    set -g _nemoterm_mark 251
    test $_nemoterm_status = 251; and set -g _nemoterm_mark 252
    set -e _nemoterm_active
    _nemoterm_disarm
    _nemoterm_forget
    if test -n "$NEMOTERM_OFF" -o "$NEMOTERM_MODE" = hotkey
        _nemoterm_unbind_keys
        _nemoterm_give_back
        _nemoterm_bind_ask
        return 0
    end
    if not set -q _nemoterm_fifo; or not test -p $_nemoterm_fifo -a -e $_nemoterm_alive
        set -e _nemoterm_fifo
        # One that ends again and again is started less and less often.
        set -g _nemoterm_pause (math $_nemoterm_pause - 1)
        if test $_nemoterm_pause -le 0
            set -g _nemoterm_failures (math $_nemoterm_failures + 1)
            set -g _nemoterm_pause (math $_nemoterm_failures \* $_nemoterm_failures)
            _nemoterm_attach
        end
    else
        set -g _nemoterm_failures 0
    end
    # A client that has read nothing since the prompt before leaves the line to fish.
    if not set -q _nemoterm_fifo; or test -e (string replace --regex '[^/]*$' off -- $_nemoterm_fifo)
        or begin
            set -q _nemoterm_unanswered[48]; and set -q _nemoterm_untold[1]
        end
        _nemoterm_give_back
        return 0
    end
    set -g _nemoterm_sequence (math $_nemoterm_sequence + 1)
    # A busy one is told later.
    set -g _nemoterm_untold $event
    _nemoterm_tell event $event; and set -g _nemoterm_untold
    set -q _nemoterm_fifo; or return 0
    _nemoterm_take_over
    _nemoterm_look_at_keys
    _nemoterm_look_at_mode_prompt
    set -g _nemoterm_abbreviations (abbr --list 2>/dev/null)
    set -q _nemoterm_abbreviations[1]
    and abbr --show | string match --quiet -- '*--regex*'
    and set --append _nemoterm_abbreviations --regex
    set -g _nemoterm_active new
    set -l line (commandline --current-buffer)
    if test -z "$line"
        # The first key need not look.
        set -g _nemoterm_now ''
        # What comes next, before anything is typed. The prompt that is being made has to be ended by Ctrl-C, so nothing is
        # armed before there is a ghost.
        test -n "$ran" -a "$NEMOTERM_NEXT_COMMAND" != off; and _nemoterm_tell typed ''
    end
    return 0
end

# Nothing is drawn while a command runs, nor when it reads a line with `read`.
function _nemoterm_preexec --on-event fish_preexec
    set -e _nemoterm_active
    _nemoterm_disarm
    _nemoterm_forget
end

function _nemoterm_postexec --on-event fish_postexec
    set -g _nemoterm_status $status
    set -g _nemoterm_ran $argv[1]
end

# Sourced once more: the functions above are renewed, what is connected and shown stays. A signal that came meanwhile is lost.
set -g _nemoterm_unanswered
if not set -q _nemoterm_sequence
    set -g _nemoterm_sequence 0    # number of the prompt
    # _nemoterm_now                  the line, while it is known and the cursor is at its end
    set -g _nemoterm_ghost         # what is on the screen after it, character by character
    set -g _nemoterm_wipes         # what takes each of these away
    set -g _nemoterm_text          # what accepting it inserts, or puts in place of the line
    set -g _nemoterm_replaces add  # which of the two: `add` or `replace`
    set -g _nemoterm_turns (string split '' -- (string repeat --count 2000 x)) # how often it is looked whether the client is quiet, for 25 ms
    # _nemoterm_last                 the reply that was drawn last
    set -g _nemoterm_untold        # what the client was not told at the prompt, as it did not read
    set -g _nemoterm_deferred      # as many as signals came in a row for a line when nothing could be drawn
    set -g _nemoterm_anew          # `yes` where the line is drawn anew, until the ghost may follow
    set -g _nemoterm_abbreviations # their names, and `--regex` where one has a pattern
    set -g _nemoterm_seen          # the line when a mode prompt was made or a key was not ours last
    set -g _nemoterm_backspaced    # the line before the last backspace
    set -g _nemoterm_size          # columns and rows when a mode prompt was made last
    set -g _nemoterm_shown_mode $fish_bind_mode
    set -g _nemoterm_ran           # the command line that was run last, and its exit status
    set -g _nemoterm_status 0
    set -g _nemoterm_mark 251      # what functions for keys end with
    set -g _nemoterm_prompts 0     # how many mode prompts there were before ours
    set -g _nemoterm_failures 0    # how often in a row the client was missing
    set -g _nemoterm_pause 0       # for how many prompts it is left alone
end
_nemoterm_bind_ask

end

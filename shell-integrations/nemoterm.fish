# nemoterm for fish: the rest of the command as ghost text while you type.
#
#   nemoterm init fish | source
#
# Keys, all of which do what they did before when there is nothing to accept:
#   what moves right or to the end (Right, Ctrl-F, End, Ctrl-E)   accept the suggestion
#   what moves right by a word (Alt-Right, Alt-F)                 accept its next word
#   Alt-], Alt-{                                                  next and previous suggestion (what Alt-[ sends
#                                                                 begins other keys, for whose rest fish would wait)
#   Ctrl-Space                                                    ask now; in the middle of a line, put there what leads
#                                                                 up to the rest
#   Esc                                                           dismiss (in vi mode it leaves insert mode)
#
# Settings, to be made before this is sourced unless they say otherwise:
#   NEMOTERM_KEY_ACCEPT, NEMOTERM_KEY_WORD, NEMOTERM_KEY_NEXT, NEMOTERM_KEY_PREVIOUS, NEMOTERM_KEY_ASK,
#   NEMOTERM_KEY_DISMISS   lists of keys as `bind` takes them; an empty list binds none
#   NEMOTERM_MODE          "hotkey" suggests only when asked, and leaves every other key alone (default); "type" suggests
#                          as you type, which still costs 2 to 4 ms a key and can lose a Ctrl-C
#   NEMOTERM_NEXT_COMMAND  "off" suggests nothing before something is typed (at any time)
#   NEMOTERM_OFF           anything but empty turns this shell's suggestions off (at any time)
# `nemoterm off` and `nemoterm on` work for all shells at once.
#
# How it works: one `nemoterm attach` a shell (see its source for the records) does everything that could take time.
# A key that inserts itself is bound to a function that inserts it and writes the line to the client's pipe. The
# client answers in a file and signals the shell; that draws the suggestion after the cursor, where fish knows
# nothing of it, and the next key wipes it.
#
# In fish 3 a handler of a signal sees the line as the last bound function left it, not as the keys that fish handles
# by itself did. So the line counts as known only right after a key of ours, and every binding is preceded by a
# function that wipes the ghost and forgets the line. While the history or the pager is searched, keys have to be
# fish's own, and ours are put aside until the next prompt.

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
    set -g _nemoterm_unanswered 0
end

function _nemoterm_detach
    set -e _nemoterm_fifo
    _nemoterm_forget
    _nemoterm_give_back
end

# Whether the client has not read for so long that its pipe may be full.
function _nemoterm_is_stuck
    test $_nemoterm_unanswered -ge 48
end

# Writes a record. A client that is gone or does not read costs nothing: it is left alone before its pipe is full, until
# it signals that it reads again.
function _nemoterm_send
    set -q _nemoterm_fifo; or return 1
    if not test -p $_nemoterm_fifo -a -e $_nemoterm_alive
        _nemoterm_detach
        return 1
    end
    _nemoterm_is_stuck; and return 1
    set -l record (string join \x1f -- $argv)
    set -l length (string length -- "$record")
    # Characters, of up to four bytes; a record this short goes into a pipe as a whole.
    test $length -le 1000; or return 1
    # Counted in pieces of at most 1000 bytes, of which a pipe holds 64.
    set -l before $_nemoterm_unanswered
    set -g _nemoterm_unanswered (math "$before + 1 + floor($length / 250)")
    printf '%s\0' "$record" >$_nemoterm_fifo
    if test (math "floor($before / 12)") -ne (math "floor($_nemoterm_unanswered / 12)")
        printf '%s\0' 0\x1fnudge >$_nemoterm_fifo
    end
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
# screen instead of writing again.
function _nemoterm_put
    echo -n $argv[1] >/dev/tty; and return
    echo -n $argv[1] >/dev/tty
    commandline --function repaint
end

# Wipes the ghost. The cursor stands where it begins, or after what was typed over it.
function _nemoterm_wipe
    set -q _nemoterm_ghost[1]; or return 0
    set -e _nemoterm_ghost
    _nemoterm_put \e'[K'
end

function _nemoterm_forget
    # First, as a signal may come between any two of these.
    set -e _nemoterm_now
    _nemoterm_wipe
    set -g _nemoterm_sequence (math $_nemoterm_sequence + 1)
    set -g _nemoterm_found
    set -g _nemoterm_replaces 0
    set -g _nemoterm_step 0
    set -g _nemoterm_chosen 0
end

# Draws after the cursor. The characters are inserted from the last to the first, all at the cursor, so that what has no
# room goes over the right margin and nothing wraps: where on the screen the line is, nobody tells us.
function _nemoterm_draw
    set -l look \e'[90m'
    set -q NO_COLOR[1]; and test -n "$NO_COLOR"; and set look \e'[4m'
    set -l cells (string match --regex --all '\X' -- (string sub --length $COLUMNS -- $argv[1]))
    set -l text
    if string match --quiet --regex '^[ -~]*$' -- $argv[1]
        set text \e'[@'$cells[-1..1]\e8
    else
        for cell in $cells[-1..1]
            set --append text \e'['(string length --visible -- $cell)@$cell\e8
        end
    end
    set -g _nemoterm_ghost $argv[1]
    _nemoterm_arm
    _nemoterm_put \e'[K'$look\e7(string join '' -- $text)\e'[0m'
end

# Sets `fitting` to the suggestions that continue the line as it is now, beginning with the one that is shown.
function _nemoterm_fit --no-scope-shadowing
    set fitting
    if test "$_nemoterm_replaces" = 1
        test "$_nemoterm_now" = "$_nemoterm_for"; and set fitting $_nemoterm_found
        return 0
    end
    set -l typed (string length -- "$_nemoterm_now")
    set -l beginnings (string sub --length $typed -- $_nemoterm_found)
    set -l i 0
    for beginning in $beginnings
        set i (math $i + 1)
        test "$beginning" = "$_nemoterm_now" -a "$_nemoterm_found[$i]" != "$_nemoterm_now"
        and set --append fitting $_nemoterm_found[$i]
    end
end

# What is drawn for a suggestion.
function _nemoterm_ghost_of
    if test "$_nemoterm_replaces" = 1
        echo "  -> $argv[1]"
    else
        string sub --start (math (string length -- "$_nemoterm_now") + 1) -- $argv[1]
    end
end

# Draws the suggestion that fits best, if there is one.
function _nemoterm_show
    set -l fitting
    _nemoterm_fit
    if set -q fitting[1]
        set -g _nemoterm_found $fitting
        _nemoterm_draw (_nemoterm_ghost_of $fitting[1])
    else
        _nemoterm_wipe
    end
end

# The client has said something, or is asked to let us draw.
function _nemoterm_signalled --on-signal SIGURG
    set -q _nemoterm_fifo; or return 0
    set -g _nemoterm_unanswered 0
    if set -q _nemoterm_busy
        set -g _nemoterm_missed
        return 0
    end
    # Called from a command of a function for a key, be it the last: fish has not drawn the line yet.
    if status stack-trace | string match --quiet '*called on line*'
        set -g _nemoterm_deferred (math $_nemoterm_deferred + 1)
        test $_nemoterm_deferred -gt 50; or _nemoterm_send 0 nudge
        return 0
    end
    set -g _nemoterm_deferred 0
    set -q _nemoterm_now; and test "$fish_bind_mode" = "$_nemoterm_mode"; or return 0
    if test -r $_nemoterm_fifo.reply
        set -l reply
        # Another signal may end the first.
        read --null --list --delimiter \x1f reply <$_nemoterm_fifo.reply
        or read --null --list --delimiter \x1f reply <$_nemoterm_fifo.reply
        if test "$reply[1]" = "$_nemoterm_sequence" -a "$reply" != "$_nemoterm_last"
            and not string match --quiet --regex '[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]' -- $reply[4..-1]
            set -g _nemoterm_last "$reply"
            _nemoterm_take_in $reply[2] $reply[4..-1]
        end
    end
    _nemoterm_show
end

function _nemoterm_take_in
    set -l shown $_nemoterm_found[1]
    set -g _nemoterm_replaces 0
    if test $argv[1] = replace
        set -g _nemoterm_replaces 1
        set -g _nemoterm_found $argv[2..-1]
    else
        set -g _nemoterm_found "$_nemoterm_for"$argv[2..-1]
    end
    # What the user has stepped to stays, if it is still there.
    if test $_nemoterm_chosen = 1
        set -l place (contains --index -- "$shown" $_nemoterm_found)
        and _nemoterm_turn (math $place - 1)
    end
    if test $_nemoterm_step != 0
        _nemoterm_turn $_nemoterm_step
        set -g _nemoterm_step 0
    end
end

# Puts the suggestion in front that is $argv further on.
function _nemoterm_turn
    set -l count (count $_nemoterm_found)
    test $count -gt 1; or return 0
    set -l first (math "($argv[1] + $count) % $count + 1")
    test $first -gt 1; or return 0
    set -g _nemoterm_found $_nemoterm_found[$first..-1] $_nemoterm_found[1..(math $first - 1)]
end

# --- asking ---------------------------------------------------------------------------------------------------

# A Ctrl-C that comes while a function of ours runs would end that and not the line. One that waits for its signal
# is called afterwards. Commands, completions and prompts have to be ended by it, so it is there only after keys of ours.
function _nemoterm_arm
    functions --query _nemoterm_interrupted; and return
    function _nemoterm_interrupted --on-signal SIGINT
        _nemoterm_forget
        # Where fish has done so already the line is empty, and nothing happens.
        commandline --function cancel-commandline
    end
end

function _nemoterm_disarm
    functions --erase _nemoterm_interrupted
end

# Asks about the line as it is known; `type` as it is typed, `ask` when the user wants to know.
function _nemoterm_ask
    set -g _nemoterm_sequence (math $_nemoterm_sequence + 1)
    set -g _nemoterm_for $_nemoterm_now
    set -g _nemoterm_asked $argv[1]
    _nemoterm_arm
    _nemoterm_send $_nemoterm_sequence $argv[1] (string length -- "$_nemoterm_now") "$_nemoterm_now"
end

# Asks what comes next, before anything is typed. The prompt that is being made has to be ended by Ctrl-C, so nothing is
# armed before there is a ghost.
function _nemoterm_ask_next
    set -g _nemoterm_sequence (math $_nemoterm_sequence + 1)
    set -g _nemoterm_now ''
    set -g _nemoterm_for ''
    set -g _nemoterm_asked type
    _nemoterm_send $_nemoterm_sequence type 0 ''
end

# Looks at the line, as the commands before this one have left it, or as $argv says it will be.
function _nemoterm_look
    set -q _nemoterm_fifo; and set -q _nemoterm_active; or return 0
    set -l line
    if set -q argv[1]
        set line $argv
    else
        set line (commandline --current-buffer)
        if set -q line[2]; or test (commandline --cursor) -ne (string length -- "$line")
            _nemoterm_forget
            return 0
        end
    end
    if test -n "$NEMOTERM_OFF"; or not string match --quiet --regex '\S' -- "$line"
        _nemoterm_forget
        return 0
    end
    if set -q _nemoterm_now; and set -q _nemoterm_ghost[1]
        and test $_nemoterm_replaces = 0 -a (string length -- "$line") -gt (string length -- "$_nemoterm_now")
        set -g _nemoterm_now $line
        set -l fitting
        _nemoterm_fit
        if test -n "$fitting[1]" -a "$fitting[1]" = "$_nemoterm_found[1]"
            # Typed as suggested. It is drawn afresh once fish has drawn the line.
            set -g _nemoterm_ghost (_nemoterm_ghost_of $fitting[1])
            _nemoterm_send 0 nudge
            return 0
        end
    end
    _nemoterm_forget
    set -g _nemoterm_now $line
    _nemoterm_ask type
end

# --- keys -----------------------------------------------------------------------------------------------------

# A key that inserts itself, and expands the abbreviation before it where a second argument says so.
function _nemoterm_insert
    set -g _nemoterm_busy
    # It ends the choice of a completion, as it does without us. With no suggestion of fish's this does nothing else.
    commandline --paging-mode; and commandline --function accept-autosuggestion
    commandline --insert -- $argv[1]
    if set -q argv[2]
        commandline --function expand-abbr
        # What the line will be then can't be told where it is one.
        if _nemoterm_may_expand
            _nemoterm_forget
        else
            _nemoterm_look
        end
    else
        _nemoterm_look
    end
    _nemoterm_done
end

function _nemoterm_may_expand
    set -l names (abbr --list 2>/dev/null)
    set -q names[1]; or return 1
    set -l line (commandline --cut-at-cursor --current-buffer)
    set -l word (string match --regex --groups-only '([^\s;|&<>()]+).$' -- "$line[-1]")
    contains -- "$word" $names
    # Those with a pattern may fit anything.
    or abbr --show | string match --quiet -- '*--regex*'
end

function _nemoterm_done
    set -e _nemoterm_busy
    set -q _nemoterm_missed; or return 0
    set -e _nemoterm_missed
    _nemoterm_send 0 nudge
end

function _nemoterm_backspace
    set -l line (commandline --current-buffer)
    if set -q line[2]; or set -q _nemoterm_aside; or commandline --paging-mode
        or test (commandline --cursor) -ne (string length -- "$line")
        _nemoterm_forget
    else
        _nemoterm_wipe
        _nemoterm_look (string replace --regex '.\p{M}*$' '' -- "$line")
    end
    commandline --function backward-delete-char
    return 0
end

# Before what any other key does.
function _nemoterm_before
    set -q _nemoterm_now; and _nemoterm_forget
    _nemoterm_disarm
    # A prompt that is made before another key, as when the window's size changes, sees the line and the cursor as here.
    set -l line (commandline --current-buffer)
    set -g _nemoterm_seen "$line"
    return 1
end

# Before a search, into which keys have to go that only fish can put there.
function _nemoterm_put_aside
    _nemoterm_before
    set -q _nemoterm_aside; and return 1
    set -g _nemoterm_aside
    _nemoterm_erase_printable
    return 1
end

# Whether there is a ghost that can be accepted.
function _nemoterm_visible
    set -q _nemoterm_ghost[1]; and set -q _nemoterm_now; or return 1
    set -l line (commandline --current-buffer)
    test "$line" = "$_nemoterm_now" -a (commandline --cursor) -eq (string length -- "$line")
end

# Puts text into the line as typing it would, and never runs it.
function _nemoterm_accept
    _nemoterm_visible; or return 1
    set -l line $_nemoterm_found[1]
    set -l rest (string sub --start (math (string length -- "$_nemoterm_now") + 1) -- $line)
    set -l replaces $_nemoterm_replaces
    _nemoterm_forget
    if test $replaces = 1
        set rest $line
        commandline --replace -- $line
    else
        commandline --insert -- $rest
    end
    # To be counted.
    _nemoterm_send 0 accept "$rest"
    _nemoterm_look
end

function _nemoterm_accept_word
    _nemoterm_visible; or return 1
    if test $_nemoterm_replaces = 1
        _nemoterm_accept
        return 0
    end
    # Blanks, then everything up to the next blank or slash, which belongs to it.
    set -l word (string match --regex '^\s*[^\s/]*/?' -- $_nemoterm_ghost)
    commandline --insert -- $word
    _nemoterm_send 0 accept "$word"
    _nemoterm_look
    return 0
end

# Shows the suggestion that is $argv further on. The first time, more are asked for.
function _nemoterm_move
    _nemoterm_visible; or return 1
    set -l fitting
    _nemoterm_fit
    set -g _nemoterm_found $fitting
    set -g _nemoterm_chosen 1
    if set -q _nemoterm_found[2]
        _nemoterm_turn $argv[1]
        _nemoterm_draw (_nemoterm_ghost_of $_nemoterm_found[1])
    else if test "$_nemoterm_asked" != ask
        set -g _nemoterm_step $argv[1]
    end
    if test "$_nemoterm_asked" != ask
        set -l step $_nemoterm_step
        _nemoterm_ask ask
        set -g _nemoterm_step $step
    end
    return 0
end

function _nemoterm_ask_now
    if not set -q _nemoterm_fifo; or not set -q _nemoterm_active
        _nemoterm_hotkey
        return
    end
    set -g _nemoterm_busy
    _nemoterm_ask_client
    _nemoterm_done
end

function _nemoterm_ask_client
    if _nemoterm_visible; and test "$_nemoterm_asked" = ask
        _nemoterm_move 1
        return
    end
    set -l line (commandline --current-buffer)
    if test -z "$NEMOTERM_OFF"; and not set -q line[2]; and not commandline --paging-mode
        and not string match --quiet --regex '^\s+$' -- "$line"
        if test (commandline --cursor) -eq (string length -- "$line")
            set -g _nemoterm_now $line
            _nemoterm_ask ask
        else
            # Nothing of ours can be drawn there.
            _nemoterm_forget
            _nemoterm_hotkey
        end
    end
end

function _nemoterm_dismiss
    _nemoterm_visible; or return 1
    _nemoterm_forget
end

# --- bindings -------------------------------------------------------------------------------------------------

# What a key does: one of our functions, named without its beginning, then what the key did before, unless ours says
# that this was all.
function _nemoterm_run
    set -g _nemoterm_busy
    if _nemoterm_$argv[1]
        _nemoterm_done
        return
    end
    _nemoterm_before
    set -e _nemoterm_busy
    for command in $argv[2..-1]
        # fish 3 takes either functions of its own or commands for one key.
        if contains -- $command $_nemoterm_functions
            commandline --function $command
        else
            eval $command
        end
    end
end

function _nemoterm_next
    _nemoterm_move 1
end

function _nemoterm_previous
    _nemoterm_move -1
end

# Puts our functions before everything that is bound where one types. fish prints bindings so that it can read them
# again, and so do we: a hundred at a time, as each call takes its time.
function _nemoterm_bind_keys
    set -g _nemoterm_mode default
    bind --preset --mode insert '' 2>/dev/null | string match --quiet '*self-insert*'
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
    set -l bound
    set -l ours
    set -l binds
    set -l i 0
    for key in $keys
        set i (math $i + 1)
        contains -- $key $bound; and continue
        set --append bound $key
        set -l what before
        switch $commands[$i]
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
                        test $commands[$i] = self-insert; or set expands ' expand'
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
        set --append binds "$modes[$i]$key "(string escape -- "_nemoterm_run $what $commands[$i]")
        set --append ours $key
    end
    set -l free (string escape -- (string split '' -- '!"#$%&\'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~'))
    set -l inserting (string escape -- "_nemoterm_insert "$free)
    set i 0
    for key in $free
        set i (math $i + 1)
        contains -- $key $bound; or set --append _nemoterm_printable "$key $inserting[$i]"
    end
    # Keys of one's own, and those that usually do nothing.
    set -q NEMOTERM_KEY_NEXT; or set -l NEMOTERM_KEY_NEXT \e']'
    set -q NEMOTERM_KEY_PREVIOUS; or set -l NEMOTERM_KEY_PREVIOUS \e'{'
    for what in ACCEPT WORD NEXT PREVIOUS DISMISS
        set -l name NEMOTERM_KEY_$what
        set -l function (string replace word accept_word -- (string lower $what))
        for key in (string escape -- $$name)
            set -l place (contains --index -- $key $keys)
            set --append binds "$key "(string escape -- "_nemoterm_run $function $commands[$place]")
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
    and test "$_nemoterm_bindings" = (bind --user --mode $_nemoterm_mode | string collect)
    and return 0
    _nemoterm_unbind_keys
    _nemoterm_bind_keys
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
    set -l text
    set -q argv[1]; and set text ($argv)
    if set -q _nemoterm_active; and test "$_nemoterm_active" = typing
        set -g _nemoterm_busy
        set -l line (commandline --current-buffer)
        if test "$line" != "$_nemoterm_seen"; and string match --quiet --regex '[^\x00-\x7f]$' -- "$line"
            _nemoterm_look
        else
            _nemoterm_forget
        end
        set -g _nemoterm_seen "$line"
        _nemoterm_done
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
end

# --- a line from its beginning to its end -----------------------------------------------------------------------

function _nemoterm_prompt --on-event fish_prompt
    set -l event $_nemoterm_status "$PWD" "$_nemoterm_ran"
    set -g _nemoterm_ran
    set -e _nemoterm_active
    set -e _nemoterm_busy
    _nemoterm_disarm
    _nemoterm_forget
    if test -n "$NEMOTERM_OFF" -o "$NEMOTERM_MODE" != type
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
    if not set -q _nemoterm_fifo; or _nemoterm_is_stuck; or test -e (string replace --regex '[^/]*$' off -- $_nemoterm_fifo)
        _nemoterm_give_back
        return 0
    end
    _nemoterm_send 0 event $event; or return 0
    _nemoterm_take_over
    _nemoterm_look_at_keys
    _nemoterm_look_at_mode_prompt
    set -g _nemoterm_active new
    test -n "$event[3]" -a "$NEMOTERM_NEXT_COMMAND" != off; and _nemoterm_ask_next
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

# Sourced once more: the functions above are renewed, what is connected and shown stays.
if not set -q _nemoterm_sequence
    set -g _nemoterm_sequence 0    # number of the last request
    set -g _nemoterm_found         # the suggestions, as whole lines; the first is shown
    set -g _nemoterm_replaces 0    # whether they replace the line (a `# description`)
    set -g _nemoterm_for           # the line that was asked about
    set -g _nemoterm_asked         # how: `type` or `ask`
    set -g _nemoterm_last          # the last reply
    set -g _nemoterm_step 0        # how far to go in the suggestions when more arrive
    set -g _nemoterm_chosen 0      # whether the user has stepped to the one that is shown
    set -g _nemoterm_seen          # the line when a mode prompt was made or a key was not ours last
    set -g _nemoterm_shown_mode $fish_bind_mode
    set -g _nemoterm_ran           # the command line that was run last, and its exit status
    set -g _nemoterm_status 0
    set -g _nemoterm_prompts 0     # how many mode prompts there were before ours
    set -g _nemoterm_deferred 0    # how often in a row a signal came when nothing could be drawn
    set -g _nemoterm_failures 0    # how often in a row the client was missing
    set -g _nemoterm_pause 0       # for how many prompts it is left alone
end
_nemoterm_bind_ask

end

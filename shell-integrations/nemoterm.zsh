# nemoterm for zsh: the rest of the command as ghost text while you type.
#
#   eval "$(nemoterm init zsh)"
#
# Keys, all of which do what they did before when there is nothing to accept:
#   Right, End, Ctrl-F, Ctrl-E   accept the suggestion
#   Alt-Right, Alt-F             accept its next word
#   Alt-], Alt-[                 next and previous suggestion
#   Ctrl-Space                   ask now; in the middle of a line, put there what leads up to the rest, and again for another
#   Esc                          dismiss (Ctrl-G in vi mode, where Esc leaves insert mode and hides it anyway)
#
# Settings, to be made before this is evaluated unless they say otherwise:
#   NEMOTERM_KEY_ACCEPT, NEMOTERM_KEY_WORD, NEMOTERM_KEY_NEXT, NEMOTERM_KEY_PREVIOUS, NEMOTERM_KEY_ASK,
#   NEMOTERM_KEY_DISMISS    arrays of keys as bindkey takes them; an empty array binds none
#   NEMOTERM_HIGHLIGHT      look of the ghost, as in region_highlight (at any time; default fg=8)
#   NEMOTERM_MODE           "hotkey" suggests only when asked (at any time; default "type")
#   NEMOTERM_NEXT_COMMAND   "off" suggests nothing before something is typed (at any time)
#   NEMOTERM_OFF            anything but empty turns this shell's suggestions off (at any time)
# `nemoterm off` and `nemoterm on` work for all shells at once.
#
# How it works: one `nemoterm attach` a shell (see its source for the records) does everything that could take
# time. A redraw of the line writes the line to it without waiting, and its answers are drawn when they arrive, if
# they still fit.

# A `return` here would end the file this is evaluated in.
autoload -Uz is-at-least
if [[ -o interactive && -o zle && $TERM != dumb ]] && is-at-least 5.3 && {
  zmodload zsh/system zsh/datetime
  zmodload -F zsh/files b:zf_rm b:zf_mv
  zmodload -F zsh/parameter p:functions
  zmodload -F zsh/zleparameter p:widgets
} 2>/dev/null; then

autoload -Uz add-zle-hook-widget add-zsh-hook

typeset -g _nemoterm_program=@NEMOTERM@

# Evaluated once more: the functions below are renewed, what is connected and shown stays.
if (( ! ${+_nemoterm_sequence} )); then
  typeset -gi _nemoterm_sequence=0     # number of the last request
  typeset -g  _nemoterm_from= _nemoterm_to=   # descriptors: answers come from one, requests go to the other
  typeset -g  _nemoterm_unread=        # the beginning of a record of which the end has not arrived
  typeset -gF _nemoterm_started=0      # when the client was started last
  typeset -gi _nemoterm_failures=0     # how often in a row it ended
  typeset -g  _nemoterm_asked=         # the buffer the last request was about
  typeset -g  _nemoterm_settled=       # the buffer about which nothing is to be asked: it was, or was dismissed
  typeset -g  _nemoterm_for=           # the buffer the suggestions continue
  typeset -ga _nemoterm_suggestions=() # what may be added, best first
  typeset -gi _nemoterm_index=1        # which of them is shown
  typeset -gi _nemoterm_replaces=0     # whether they replace the line (a `# description`)
  typeset -g  _nemoterm_ghost=         # what is on the screen after the line
  typeset -g  _nemoterm_mark='*memo=nemoterm' # which of the colours in the line are ours
  typeset -gi _nemoterm_memos=0        # whether they can carry our name
  is-at-least 5.9 && _nemoterm_memos=1
  typeset -gi _nemoterm_step=0         # where to go in the suggestions when more arrive
  typeset -gi _nemoterm_chosen=0       # whether the user has stepped to the one that is shown
  typeset -gi _nemoterm_complete=0     # whether more than one was asked for
  typeset -gi _nemoterm_wanted=0       # whether the user asked before there was a client
  typeset -g  _nemoterm_ran=           # the command line that runs
  typeset -gi _nemoterm_fresh=0        # whether a command has run and nothing has been typed since
  typeset -g  _nemoterm_trap=          # the user's own INT trap while ours is set
  typeset -gi _nemoterm_trapped=0      # whether ours is set
  typeset -g  _nemoterm_users_precmd=  # the user's own `precmd` while nothing is in its place
  typeset -gi _nemoterm_offered=0      # whether nothing is
  typeset -g  _nemoterm_end=           # what Ctrl-D does while it is ours
  typeset -gi _nemoterm_listed=0       # whether there is one that is no function
  typeset -g  _nemoterm_directory=     # closed to others, for a file
  typeset -ga _nemoterm_fills=()       # what fits in the middle of the line, and nothing as the last
  typeset -gi _nemoterm_fill=0         # which of them stands there
  typeset -gi _nemoterm_fill_sequence=0   # the request for them
  typeset -g  _nemoterm_fill_before= _nemoterm_fill_after=   # the line around them
  typeset -gi _nemoterm_killed=0       # whether a key had killed something before answers came
  typeset -gi _nemoterm_elsewhere=0    # whether another plugin draws
  typeset -gA _nemoterm_before=()      # widget -> what its key did before
fi

# --- the client ---------------------------------------------------------------------------------------------

# Starts the client. It is waited for nowhere: its first record tells where requests go.
_nemoterm_start() {
  emulate -L zsh
  _nemoterm_started=$EPOCHREALTIME
  # In braces: what `exec` itself is told to redirect stays redirected for all that the shell runs.
  {
    exec {_nemoterm_from}< <(
      exec -- "$_nemoterm_program" attach zsh --fifo --pid $$ ${HISTFILE:+--histfile=$HISTFILE} </dev/null 2>/dev/null
    )
  } 2>/dev/null || { _nemoterm_from=; return 1 }
  zle -F -w $_nemoterm_from _nemoterm_receive
}

_nemoterm_stop() {
  [[ -n $_nemoterm_from ]] && { zle -F $_nemoterm_from; exec {_nemoterm_from}<&- }
  [[ -n $_nemoterm_to ]] && exec {_nemoterm_to}>&-
  _nemoterm_from= _nemoterm_to= _nemoterm_unread=
} 2>/dev/null

# Writes a record. A client that does not read, or not any more, costs nothing: the descriptor does not block,
# and a record this short goes into a pipe as a whole or not at all.
_nemoterm_send() {
  [[ -n $_nemoterm_to ]] || return 1
  local record="${(pj:\x1f:)@}"$'\0'
  # Characters, of up to four bytes.
  (( $#record <= 1024 )) || return 1
  syswrite -o $_nemoterm_to -- "$record" 2>/dev/null
}

# Called by zle when the client has said something.
_nemoterm_receive() {
  emulate -L zsh
  # What is killed before and after it is one piece, as if it had not run.
  [[ $LASTWIDGET == _nemoterm_receive ]] || { [[ $LASTWIDGET == *kill* ]] && _nemoterm_killed=1 || _nemoterm_killed=0 }
  (( _nemoterm_killed )) && zle -f kill
  local chunk record
  {
    if ! sysread -i $1 -t 0 chunk 2>/dev/null; then
      # The client has ended. It is started again when a prompt appears, less and less often.
      (( ++_nemoterm_failures ))
      _nemoterm_stop
      return 0
    fi
    _nemoterm_unread+=$chunk
    while [[ $_nemoterm_unread == *$'\0'* ]]; do
      record=${_nemoterm_unread%%$'\0'*}
      _nemoterm_unread=${_nemoterm_unread#*$'\0'}
      _nemoterm_record "${(@ps:\x1f:)record}"
    done
  } always {
    # A Ctrl-C that comes while no trap of ours is set ends what is above.
    (( TRY_BLOCK_INTERRUPT )) && _nemoterm_wake
  }
}

_nemoterm_record() {
  if [[ $1 == 0 && $2 == hello ]]; then
    sysopen -w -o cloexec,nonblock -u _nemoterm_to -- "$3" 2>/dev/null || { _nemoterm_to=; return 0 }
    _nemoterm_failures=0 _nemoterm_directory=${3:h}
    _nemoterm_look_at_traps
    _nemoterm_event
    # What was typed before there was anybody to ask.
    if (( ! _nemoterm_wanted )); then
      _nemoterm_redraw
    elif (( CURSOR < $#BUFFER )); then
      _nemoterm_ask_between
    else
      _nemoterm_ask ask
    fi
    _nemoterm_wanted=0
    return 0
  fi
  [[ $1 == $_nemoterm_sequence ]] || return 0
  if (( $1 == _nemoterm_fill_sequence )); then
    _nemoterm_fill_found "${(@)argv[4,-1]}"
    return
  fi
  local shown=
  [[ $_nemoterm_for == "$_nemoterm_asked" ]] && (( _nemoterm_chosen )) &&
    shown=$_nemoterm_suggestions[$_nemoterm_index]
  _nemoterm_for=$_nemoterm_asked
  _nemoterm_suggestions=("${(@)argv[4,-1]}")
  [[ $2 == replace ]] && _nemoterm_replaces=1 || _nemoterm_replaces=0
  # What the user has stepped to stays, if it is still there.
  _nemoterm_index=${_nemoterm_suggestions[(ie)$shown]}
  (( _nemoterm_index <= $#_nemoterm_suggestions )) || _nemoterm_index=1
  if (( _nemoterm_step )); then
    _nemoterm_move $_nemoterm_step
    _nemoterm_step=0
  fi
  _nemoterm_fit || _nemoterm_forget
  _nemoterm_paint
  zle -R
}

# --- what is shown ------------------------------------------------------------------------------------------

# Makes the suggestions continue the buffer as it is now, where that is part of them; else fails.
_nemoterm_fit() {
  [[ $BUFFER == "$_nemoterm_for" ]] && return 0
  (( _nemoterm_replaces )) && return 1
  (( $#_nemoterm_suggestions )) && [[ $BUFFER == "$_nemoterm_for"?* ]] || return 1
  local typed=${BUFFER[$#_nemoterm_for+1,-1]} shown=$_nemoterm_suggestions[$_nemoterm_index] suggestion
  local -a fitting=()
  [[ $shown == "$typed"?* ]] || return 1
  for suggestion in "${_nemoterm_suggestions[@]}"; do
    [[ $suggestion == "$typed"?* ]] && fitting+=("${suggestion[$#typed+1,-1]}")
  done
  _nemoterm_suggestions=("${fitting[@]}")
  _nemoterm_index=${fitting[(ie)${shown[$#typed+1,-1]}]}
  _nemoterm_for=$BUFFER
  return 0
}

_nemoterm_forget() {
  _nemoterm_for= _nemoterm_suggestions=() _nemoterm_index=1 _nemoterm_replaces=0
  _nemoterm_step=0 _nemoterm_chosen=0
}

# Goes $1 further in the suggestions, round and round.
_nemoterm_move() {
  local -i count=$#_nemoterm_suggestions
  (( count > 1 )) || return 0
  _nemoterm_index=$(( (_nemoterm_index - 1 + $1 + count) % count + 1 ))
  _nemoterm_chosen=1
}

# Whether there is a ghost the user can see and accept.
_nemoterm_visible() {
  [[ -n $_nemoterm_ghost && $POSTDISPLAY == "$_nemoterm_ghost" && $CURSOR -eq $#BUFFER && $BUFFER == "$_nemoterm_for" ]]
}

# Brings the screen in line with the suggestions. Runs for every key, before the key is echoed.
_nemoterm_paint() {
  local ghost=
  if (( $#_nemoterm_suggestions && CURSOR == $#BUFFER )) &&
    [[ $BUFFER == "$_nemoterm_for" && $KEYMAP != vicmd ]]; then
    ghost=$_nemoterm_suggestions[$_nemoterm_index]
    (( _nemoterm_replaces )) && ghost="  -> $ghost"
  elif [[ -z $_nemoterm_ghost ]]; then
    return 0
  fi
  # Another plugin's text after the line is not ours to take away.
  [[ -n $ghost || $POSTDISPLAY == "$_nemoterm_ghost" ]] && POSTDISPLAY=$ghost
  _nemoterm_ghost=$ghost
  if [[ -n $ghost ]]; then
    local colour mark=$_nemoterm_mark
    _nemoterm_colour
    region_highlight=("${(@)region_highlight:#$~mark}" "$colour")
    (( _nemoterm_trapped )) || _nemoterm_arm
  else
    region_highlight=("${(@)region_highlight:#$~_nemoterm_mark}")
    _nemoterm_disarm
  fi
  return 0
}

# Sets `colour` to what makes the ghost look like one.
_nemoterm_colour() {
  local look=fg=8
  [[ -n $NO_COLOR ]] && look=underline
  local place="$#BUFFER $(( $#BUFFER + $#_nemoterm_ghost ))"
  colour="$place ${NEMOTERM_HIGHLIGHT:-$look} memo=nemoterm"
  # Before zsh 5.9 a memo was lost. No other plugin colours what lies after the line, so the place says whose it is.
  (( _nemoterm_memos )) || _nemoterm_mark="$place *"
}

_nemoterm_hide() {
  emulate -L zsh
  _nemoterm_forget
  _nemoterm_paint
}

# --- asking -------------------------------------------------------------------------------------------------

# Asks about the buffer; `type` as it is typed, `ask` when the user wants to know.
_nemoterm_ask() {
  [[ -n $_nemoterm_to ]] || return 1
  _nemoterm_asked=$BUFFER _nemoterm_settled=$BUFFER
  (( ++_nemoterm_sequence ))
  [[ $1 == ask ]] && _nemoterm_complete=1 || _nemoterm_complete=0
  _nemoterm_step=0
  _nemoterm_send $_nemoterm_sequence $1 $CURSOR "$BUFFER"
}

# Before each redraw of the line.
_nemoterm_redraw() {
  emulate -L zsh
  setopt extendedglob
  # Only a command from its beginning: not where `vared` reads something else, nor the later lines of a loop.
  [[ $CONTEXT == start ]] || return 0
  if ! _nemoterm_fit; then
    # The screen must not show what does not belong to the line, however long the next answer takes.
    _nemoterm_forget
  fi
  _nemoterm_paint
  [[ $BUFFER == "$_nemoterm_settled" ]] || _nemoterm_settled=
  # A key that waits already makes an answer to this one useless. This also makes one request of a paste.
  (( PENDING || KEYS_QUEUED_COUNT )) && return 0
  if [[ -n $NEMOTERM_OFF ]]; then
    _nemoterm_hide
    return 0
  fi
  [[ $NEMOTERM_MODE == hotkey ]] && return 0
  (( _nemoterm_elsewhere )) && return 0
  if [[ -z $BUFFER ]]; then
    # Once after a command.
    (( _nemoterm_fresh )) && [[ $NEMOTERM_NEXT_COMMAND != off ]] && _nemoterm_ask type && _nemoterm_fresh=0
    return 0
  fi
  _nemoterm_fresh=0
  [[ $BUFFER == "$_nemoterm_settled" || $BUFFER == "$_nemoterm_for" ]] && return 0
  (( CURSOR == $#BUFFER )) || return 0
  # Pasted comments are no questions.
  [[ $BUFFER == [[:space:]]#\#* && $LASTWIDGET == bracketed-paste ]] && return 0
  [[ $BUFFER == *[^[:space:]]* ]] || return 0
  _nemoterm_ask type
}

# Tells the client where the shell is and what it ran.
_nemoterm_event() {
  _nemoterm_send 0 event ${_nemoterm_status:-0} "$PWD" "$_nemoterm_ran" && _nemoterm_ran=
}

_nemoterm_preexec() { _nemoterm_ran=$1 }

_nemoterm_precmd() {
  typeset -g _nemoterm_status=$?
  # With the options and the status that it is used to.
  _nemoterm_take_back || { _nemoterm_set_status; precmd }
  emulate -L zsh
  _nemoterm_see
  _nemoterm_asked= _nemoterm_settled=
  [[ -n $_nemoterm_ran ]] && _nemoterm_fresh=1 || _nemoterm_fresh=0
  _nemoterm_meet_others
  if [[ -z $_nemoterm_from ]] &&
    (( EPOCHREALTIME - _nemoterm_started > 5 * _nemoterm_failures * _nemoterm_failures )); then
    _nemoterm_start
  else
    _nemoterm_event
  fi
  return 0
}

_nemoterm_line_init() {
  emulate -L zsh
  _nemoterm_disarm
  _nemoterm_forget
  # What answers come now are to a line that is gone.
  (( ++_nemoterm_sequence ))
  _nemoterm_asked= _nemoterm_settled= _nemoterm_ghost= _nemoterm_wanted=0
  _nemoterm_look_at_traps
  _nemoterm_redraw
}

# With `trap COMMAND INT` Ctrl-C runs the command and does not end the line, and our trap would be in its way. Only
# `trap` itself tells of it, and only outside of a subshell.
_nemoterm_look_at_traps() {
  _nemoterm_listed=0
  [[ -n $_nemoterm_directory ]] || return 0
  local file=$_nemoterm_directory/traps.$$
  { trap >| $file && [[ "$(<$file)" == *' INT'* ]] && _nemoterm_listed=1; zf_rm -f $file } 2>/dev/null
  return 0
}

# The line is done: what is left on the screen is what is run.
_nemoterm_line_finish() {
  emulate -L zsh
  local visible=$_nemoterm_ghost
  _nemoterm_hide
  (( ++_nemoterm_sequence ))
  [[ -n $visible ]] && zle -R
  return 0
}

# --- Ctrl-C, Esc and Ctrl-D, only while there is a ghost --------------------------------------------------------------

# Ctrl-C abandons the line where it stands, with the ghost, and only a trap comes before it.
_nemoterm_arm() {
  (( _nemoterm_trapped || _nemoterm_listed )) && return 0
  # Or the trap would end with the function that sets it.
  setopt localoptions nolocaltraps
  _nemoterm_trapped=1
  _nemoterm_trap=${functions[TRAPINT]-}
  # The `return` has to stand in the trap itself, or the line goes on.
  functions[TRAPINT]='_nemoterm_interrupted "$@"; return $?'
  local map
  for map in $_nemoterm_escape_maps; do bindkey -M $map '^[' nemoterm-dismiss; done
  [[ -z $BUFFER ]] && _nemoterm_arm_end
  return 0
}

# Ctrl-D on an empty line ends the shell before any widget or hook runs. So while there is a ghost it is a macro for keys
# no terminal sends; their widget takes the ghost away and puts Ctrl-D back, to do what it always does.
_nemoterm_arm_end() {
  [[ -n $_nemoterm_directory ]] || return 0
  local file=$_nemoterm_directory/keys.$$ line
  { bindkey -M main '^D' >| $file && line="$(<$file)"; zf_rm -f $file } 2>/dev/null
  # A widget, or nothing, or a macro, which is left alone.
  [[ $line == '"^D" '[a-zA-Z_.]* ]] || return 0
  _nemoterm_end=${line#* }
  bindkey -M main -s '^D' '^X^_E'
}

_nemoterm_disarm_end() {
  [[ -n $_nemoterm_end ]] || return 0
  bindkey -M main '^D' $_nemoterm_end
  _nemoterm_end=
}

_nemoterm_end_of_file() {
  emulate -L zsh
  _nemoterm_let_go
  _nemoterm_disarm_end
  zle -U $'\x04'
}

_nemoterm_disarm() {
  (( _nemoterm_trapped )) || return 0
  setopt localoptions nolocaltraps
  _nemoterm_trapped=0
  if [[ -n $_nemoterm_trap ]]; then functions[TRAPINT]=$_nemoterm_trap; else unfunction TRAPINT 2>/dev/null; fi
  local map
  for map in $_nemoterm_escape_maps; do bindkey -M $map -r '^['; done
  _nemoterm_disarm_end
}

_nemoterm_interrupted() {
  # In the trap itself the line can't be changed.
  zle && zle _nemoterm_wipe
  # zsh may be in a handler, or on a busy machine still about to wait after one.
  _nemoterm_wake
  if [[ -n $_nemoterm_trap ]]; then
    functions[_nemoterm_users_trap]=$_nemoterm_trap
    _nemoterm_users_trap "$@" || { local -i result=$?; _nemoterm_offer; return $result }
  else
    _nemoterm_offer
    return $(( 128 + $1 ))
  fi
}

# What zle is told by an interrupt it looks at only when a signal ends its waiting. An interrupt that comes before it
# waits, as in a handler, would so be seen at the next key. A signal that means nothing is sent a few times, until there is
# a prompt: a signal that comes while zsh writes a letter keeps it from the screen. So what sends them is no child of the
# shell either, which would be told of its end; and it takes the file away while it sends one, so that `_nemoterm_see` can
# wait for that.
_nemoterm_wake() {
  [[ -n $_nemoterm_directory ]] || return 0
  local unseen=$_nemoterm_directory/unseen.$$
  { : >| $unseen } 2>/dev/null || return 0
  # That of what starts it is over here.
  : $(
    {
      zmodload zsh/zselect
      for wait in 1 2 5 10 30; do
        zselect -t $wait
        zf_mv $unseen $unseen.now || exit 0
        kill -CHLD $$
        zf_mv $unseen.now $unseen
      done
    } </dev/null &>/dev/null &!
  )
}

# Ends that, before anything is written.
_nemoterm_see() {
  [[ -n $_nemoterm_directory ]] || return 0
  local unseen=$_nemoterm_directory/unseen.$$ turn
  for turn in {1..20}; do
    zf_rm -f $unseen 2>/dev/null
    # In this order: a file that is put back is seen as the one or the other.
    [[ -e $unseen.now || -e $unseen ]] || return 0
    zmodload zsh/zselect && zselect -t 1
  done
  # What sent it has died in between, and no other prompt waits for that.
  zf_rm -f $unseen $unseen.now 2>/dev/null
}

# After a trap that has failed zsh skips the next function, which is the user's `precmd`. So there is another one in its
# place, until ours is called.
_nemoterm_offer() {
  (( _nemoterm_offered )) && return 0
  _nemoterm_offered=1
  _nemoterm_users_precmd=${functions[precmd]-}
  functions[precmd]=:
}

_nemoterm_set_status() { return $_nemoterm_status }

_nemoterm_take_back() {
  (( _nemoterm_offered )) || return 0
  _nemoterm_offered=0
  unfunction precmd 2>/dev/null
  [[ -n $_nemoterm_users_precmd ]] || return 0
  functions[precmd]=$_nemoterm_users_precmd
  _nemoterm_users_precmd=
  return 1
}

_nemoterm_wipe() {
  emulate -L zsh
  _nemoterm_forget
  POSTDISPLAY= _nemoterm_ghost=
  region_highlight=("${(@)region_highlight:#$~_nemoterm_mark}")
  zle -R
}

# --- keys ---------------------------------------------------------------------------------------------------

# A widget of the user's that one of these falls through to runs with the user's options, so they are not changed
# before that.

# What the key did before it was ours.
_nemoterm_fall_through() {
  local before=${_nemoterm_before[$WIDGET]:-${1-}}
  [[ -n $before && $before != undefined-key ]] || return 0
  zle "$before"
}

# Puts text into the line as typing it would, and never runs it.
_nemoterm_take() {
  # To be counted.
  _nemoterm_send $_nemoterm_sequence accept "$1"
  if (( _nemoterm_replaces )); then
    BUFFER=$1
  else
    BUFFER+=$1
  fi
  CURSOR=$#BUFFER
}

_nemoterm_accept() {
  if ! _nemoterm_visible; then
    _nemoterm_fall_through "$1"
    return
  fi
  emulate -L zsh
  local suggestion=$_nemoterm_suggestions[$_nemoterm_index]
  _nemoterm_take "$suggestion"
  _nemoterm_hide
}
_nemoterm_accept_char() { _nemoterm_accept forward-char }
_nemoterm_accept_end() { _nemoterm_accept end-of-line }

_nemoterm_accept_word() {
  if ! _nemoterm_visible; then
    _nemoterm_fall_through forward-word
    return
  fi
  emulate -L zsh
  setopt extendedglob
  local suggestion=$_nemoterm_suggestions[$_nemoterm_index]
  if (( _nemoterm_replaces )); then
    _nemoterm_take "$suggestion"
    _nemoterm_hide
    return
  fi
  # Blanks, then everything up to the next blank or slash, which belongs to it.
  local rest=${suggestion##[[:space:]]##}
  local blanks=${suggestion[1,$#suggestion-$#rest]} word=${rest%%[[:space:]/]*}
  [[ ${rest[$#word+1]} == / ]] && word+=/
  _nemoterm_take "$blanks$word"
  _nemoterm_fit || _nemoterm_forget
  _nemoterm_paint
}

# Shows the suggestion that is $1 further on. The first time, more are asked for.
_nemoterm_step() {
  emulate -L zsh
  if (( ! _nemoterm_complete )); then
    _nemoterm_ask ask || return 0
    (( $#_nemoterm_suggestions > 1 )) || _nemoterm_step=$1
  fi
  _nemoterm_move $1
  _nemoterm_paint
}

_nemoterm_next() { if _nemoterm_visible; then _nemoterm_step 1; else _nemoterm_fall_through; fi }
_nemoterm_previous() { if _nemoterm_visible; then _nemoterm_step -1; else _nemoterm_fall_through; fi }

_nemoterm_hotkey() {
  if [[ -n ${NEMOTERM_OFF-} || -z $_nemoterm_from || $CONTEXT != start ]]; then
    _nemoterm_fall_through
    return
  fi
  emulate -L zsh
  if [[ -z $_nemoterm_to ]]; then
    _nemoterm_wanted=1
  elif (( CURSOR < $#BUFFER )); then
    _nemoterm_ask_between
  elif _nemoterm_visible && (( _nemoterm_complete )); then
    _nemoterm_step 1
  else
    _nemoterm_ask ask
  fi
}

# zle draws nothing of ours within the line. So the key puts a suggestion there, when it comes and if the line is still
# the same, and each time the next one; the last is what stood there before.
_nemoterm_ask_between() {
  if _nemoterm_fills_stand; then
    _nemoterm_put_fill $(( _nemoterm_fill % $#_nemoterm_fills + 1 ))
    return 0
  fi
  _nemoterm_fills=() _nemoterm_fill=0 _nemoterm_fill_before=$LBUFFER _nemoterm_fill_after=$RBUFFER
  _nemoterm_forget
  _nemoterm_fill_sequence=$(( ++_nemoterm_sequence ))
  _nemoterm_send $_nemoterm_sequence ask $CURSOR "$BUFFER"
  return 0
}

_nemoterm_fills_stand() {
  [[ $_nemoterm_fill -gt 0 && $RBUFFER == "$_nemoterm_fill_after" ]] &&
    [[ $LBUFFER == "$_nemoterm_fill_before$_nemoterm_fills[$_nemoterm_fill]" ]]
}

_nemoterm_put_fill() {
  _nemoterm_fill=$1
  LBUFFER=$_nemoterm_fill_before$_nemoterm_fills[$1]
}

_nemoterm_fill_found() {
  if _nemoterm_fills_stand; then
    # Others, or others as well. The one that stands there stays.
    local stands=$_nemoterm_fills[$_nemoterm_fill]
    _nemoterm_fills=("$stands" "${(@)argv:#$stands}" '')
    _nemoterm_fill=1
  elif (( ! _nemoterm_fill )) && [[ $LBUFFER == "$_nemoterm_fill_before" && $RBUFFER == "$_nemoterm_fill_after" ]]; then
    _nemoterm_fills=("$@" '')
    _nemoterm_put_fill 1
    zle -R
  fi
  return 0
}

_nemoterm_dismiss() {
  if ! _nemoterm_visible; then
    _nemoterm_fall_through
    return
  fi
  _nemoterm_let_go
}

# Menu completion and the search in the history draw the line themselves, with whatever stands after it, now or when
# an answer comes.
_nemoterm_tab() {
  _nemoterm_let_go
  _nemoterm_fall_through expand-or-complete
}
_nemoterm_search() { _nemoterm_let_go }

_nemoterm_let_go() {
  (( ++_nemoterm_sequence ))
  _nemoterm_fresh=0
  _nemoterm_settled=$BUFFER
  _nemoterm_hide
}

_nemoterm_bind_keys() {
  emulate -L zsh
  setopt extendedglob
  local map line place
  local -a words
  local -A bound

  # What the keys are bound to now, at the price of one fork.
  for line in ${(f)"$(for map in emacs viins; do print -r -- "map $map"; bindkey -M $map; done)"}; do
    if [[ $line == 'map '* ]]; then map=${line#map }; continue; fi
    words=(${(z)line})
    (( $#words == 2 )) || continue
    place="$map $words[1]"
    bound[$place]=$words[2]
  done

  bind() { # bind FUNCTION MAPS KEY...
    local function=$1 map key name previous place
    local -a maps=(${=2})
    shift 2
    for map in $maps; do
      for key in "$@"; do
        [[ -n $key ]] || continue
        place="$map \"$key\""
        previous=${bound[$place]-}
        # Ours already, or a macro, which can't be called: the user's keys stay the user's.
        [[ $previous == (_nemoterm_key_*|\"*) ]] && continue
        name=_nemoterm_key_${#_nemoterm_before}_${function#_nemoterm_}
        _nemoterm_before[$name]=$previous
        zle -N $name $function
        bindkey -M $map -- "$key" $name
      done
    done
  }

  # Letters after Esc are left alone in vi mode, where Esc and a command often follow in no time.
  local -a right=('^[[C' '^[OC') end=('^[[F' '^[OF' '^[[4~') alt_right=('^[[1;3C' '^[^[[C')
  [[ -n ${terminfo[kcuf1]-} ]] && right+=("${(V)terminfo[kcuf1]}")
  if (( ${+NEMOTERM_KEY_ACCEPT} )); then
    bind _nemoterm_accept_char 'emacs viins' "${(@)NEMOTERM_KEY_ACCEPT}"
  else
    bind _nemoterm_accept_char 'emacs viins' "${(@u)right}"
    bind _nemoterm_accept_end 'emacs viins' "${(@)end}"
    bind _nemoterm_accept_char emacs '^F'
    bind _nemoterm_accept_end emacs '^E'
  fi
  if (( ${+NEMOTERM_KEY_WORD} )); then
    bind _nemoterm_accept_word 'emacs viins' "${(@)NEMOTERM_KEY_WORD}"
  else
    bind _nemoterm_accept_word 'emacs viins' "${(@)alt_right}"
    bind _nemoterm_accept_word emacs '^[f' '^[F'
  fi
  if (( ${+NEMOTERM_KEY_NEXT} )); then
    bind _nemoterm_next 'emacs viins' "${(@)NEMOTERM_KEY_NEXT}"
  else
    bind _nemoterm_next emacs '^[]'
  fi
  if (( ${+NEMOTERM_KEY_PREVIOUS} )); then
    bind _nemoterm_previous 'emacs viins' "${(@)NEMOTERM_KEY_PREVIOUS}"
  else
    bind _nemoterm_previous emacs '^[['
  fi
  if (( ${+NEMOTERM_KEY_ASK} )); then
    bind _nemoterm_hotkey 'emacs viins' "${(@)NEMOTERM_KEY_ASK}"
  else
    bind _nemoterm_hotkey 'emacs viins' '^@'
  fi
  typeset -ga _nemoterm_escape_maps=()
  if (( ${+NEMOTERM_KEY_DISMISS} )); then
    bind _nemoterm_dismiss 'emacs viins' "${(@)NEMOTERM_KEY_DISMISS}"
  else
    # Esc by itself is bound only while there is a ghost, so that Esc and then a letter stays Alt and that letter,
    # however slowly typed.
    place='emacs "^["'
    [[ -z ${bound[$place]-} ]] && _nemoterm_escape_maps=(emacs)
    bind _nemoterm_dismiss viins '^G'
  fi
  bind _nemoterm_tab 'emacs viins' '^I'
  unfunction bind
}

# --- beginning ----------------------------------------------------------------------------------------------

# zsh-autosuggestions draws after the line too, and two writers fight. Where it is, it draws, and asks us.
_nemoterm_yield() {
  emulate -L zsh
  (( ! _nemoterm_elsewhere && ${+functions[_zsh_autosuggest_start]} )) || return 0
  _nemoterm_elsewhere=1
  typeset -ga ZSH_AUTOSUGGEST_STRATEGY
  ZSH_AUTOSUGGEST_STRATEGY=(nemoterm ${ZSH_AUTOSUGGEST_STRATEGY:#nemoterm})
}

# Runs in the process that plugin forks for every suggestion.
_zsh_autosuggest_strategy_nemoterm() {
  emulate -L zsh
  setopt extendedglob
  typeset -g suggestion=
  [[ -n $NEMOTERM_OFF || $NEMOTERM_MODE == hotkey || -n $2 ]] && return 0
  [[ $1 == [[:space:]]#\#* ]] && return 0
  local line
  local -a history=()
  [[ -r $HISTFILE ]] && history=(--history $HISTFILE)
  line=$("$_nemoterm_program" complete --shell zsh --timeout 150 $history -- "$1" </dev/null 2>/dev/null) || return 0
  line=${line%%$'\n'*}
  [[ $line == "$1"?* ]] && suggestion=$line
}

# zsh-syntax-highlighting before 0.8 wraps the widgets it finds and throws away the colours they set. It takes
# what it calls highlighters, and calls them last.
_nemoterm_join_highlighting() {
  [[ $widgets[zle-line-pre-redraw] == user:_zsh_highlight_widget_* ]] || return 0
  ZSH_HIGHLIGHT_HIGHLIGHTERS=(${ZSH_HIGHLIGHT_HIGHLIGHTERS:#nemoterm} nemoterm)
}
_zsh_highlight_highlighter_nemoterm_predicate() { true }
_zsh_highlight_highlighter_nemoterm_paint() {
  [[ -n $_nemoterm_ghost && $POSTDISPLAY == "$_nemoterm_ghost" ]] || return 0
  local colour
  _nemoterm_colour
  region_highlight+=("$colour")
}

# Other plugins may be loaded after this one, and from the prompt too.
_nemoterm_meet_others() {
  _nemoterm_yield
  _nemoterm_join_highlighting
}

() {
  emulate -L zsh
  local widget
  for widget in receive redraw search line_init line_finish wipe end_of_file; do zle -N _nemoterm_$widget; done
  # For keys of one's own.
  zle -N nemoterm-accept _nemoterm_accept_char
  zle -N nemoterm-accept-word _nemoterm_accept_word
  zle -N nemoterm-next _nemoterm_next
  zle -N nemoterm-previous _nemoterm_previous
  zle -N nemoterm-ask _nemoterm_hotkey
  zle -N nemoterm-dismiss _nemoterm_dismiss
  _nemoterm_bind_keys
  bindkey -M emacs '^X^_E' _nemoterm_end_of_file
  bindkey -M viins '^X^_E' _nemoterm_end_of_file
  add-zle-hook-widget line-pre-redraw _nemoterm_redraw
  add-zle-hook-widget isearch-update _nemoterm_search
  add-zle-hook-widget line-init _nemoterm_line_init
  add-zle-hook-widget line-finish _nemoterm_line_finish
  add-zsh-hook preexec _nemoterm_preexec
  # Before other hooks, which may change the exit status.
  add-zsh-hook -d precmd _nemoterm_precmd
  precmd_functions=(_nemoterm_precmd ${precmd_functions})
}

fi


# --- ble.sh -----------------------------------------------------------------------------------------------------
#
# ble.sh is an editor of its own in the place of readline, draws suggestions itself, and asks sources for them. We are one,
# before its own. Its keys take a suggestion; its colour is `ble-face auto_complete`. The settings above hold, but for
# NEMOTERM_HIGHLIGHT and NEMOTERM_BASH_BUILTIN; keys of NEMOTERM_KEY_ACCEPT and so on come beside those of ble.sh. The
# previous suggestion is at Alt-{, as what Alt-[ sends begins other keys.
#
# How it works: the source writes the line to the pipe of this shell's `nemoterm attach`, and looks for the answer in another
# pipe. While it does so it looks for keys every two milliseconds, as ble.sh does between the steps of what it does when
# nobody types. What comes later is taken in by a task of the same kind.

if [[ $- == *i* && $TERM != dumb && ${BLE_VERSION-} == 0.[4-9]* ]]; then

__nemoterm_program=@NEMOTERM@

# Evaluated once more: what is connected and shown stays.
if [[ -z ${_nemoterm_sequence-} ]]; then
  _nemoterm_sequence=0      # number of the last request
  _nemoterm_from=           # descriptors: answers come from one,
  _nemoterm_to=             # requests go to the other
  _nemoterm_waiting=0       # bytes in the pipe to the client, at most
  _nemoterm_failures=0      # how often in a row there was no client
  _nemoterm_pause=0         # for how many prompts it is left alone
  _nemoterm_asked=          # the line the last request was about,
  _nemoterm_cursor=0        # where the cursor was,
  _nemoterm_how=            # how it was asked about, `type` or `ask`,
  _nemoterm_patience=0      # how many looks for an answer are left,
  _nemoterm_eager=1         # and how many in a row before others have their turn
  _nemoterm_for=            # the line the suggestions continue
  _nemoterm_found=()        # what may be added, best first
  _nemoterm_replaces=       # whether they replace the line (a `# description`)
  _nemoterm_chosen=         # what the user has stepped to
  _nemoterm_shown=          # the line as it is with the suggestion on the screen
  _nemoterm_step=0          # how far to go in the suggestions when more arrive
  _nemoterm_line=           # ble.sh's number of the line that a prompt was made for last
  _nemoterm_fresh=          # whether a command has run and nothing has been typed since
  _nemoterm_ran=            # the command that runs
  _nemoterm_fills=()        # what fits in the middle of the line, and nothing as the last
  _nemoterm_fill=0          # which of them stands there
fi

# --- the client

__nemoterm_attach() {
  local hello
  hello=$(
    "$__nemoterm_program" attach bash --fifo --background --pipes --pid $$ ${HISTFILE:+--histfile "$HISTFILE"} \
      </dev/null 2>/dev/null
  )
  hello=${hello%%$'\n'*}
  # The client has both open for both ends, so neither is waited for.
  [[ -p $hello && -p $hello.reply ]] || return 1
  ble/fd#alloc _nemoterm_from '< "$hello.reply"' && ble/fd#alloc _nemoterm_to '<> "$hello"' || return 1
  _nemoterm_waiting=0 _nemoterm_failures=0
}

__nemoterm_detach() {
  [[ $_nemoterm_from ]] && ble/fd#close _nemoterm_from
  [[ $_nemoterm_to ]] && ble/fd#close _nemoterm_to
  _nemoterm_from= _nemoterm_to= _nemoterm_patience=0
}

# Writes a record. A client that does not read costs nothing: it is left alone long before its pipe is full.
__nemoterm_send() {
  [[ $_nemoterm_to ]] || return 1
  local IFS=$'\x1f'
  local record="$*"
  # Characters, of up to four bytes; a record this short goes into a pipe as a whole.
  (( ${#record} <= 1000 )) || return 1
  # Whether there is anything in it still.
  IFS= builtin read -r -t 0 -u "$_nemoterm_to" || _nemoterm_waiting=0
  (( (_nemoterm_waiting += 4 * ${#record} + 1) <= 32768 )) || return 1
  builtin printf '%s\0' "$record" >&"$_nemoterm_to"
} 2>/dev/null

# Whether there is something to read.
__nemoterm_has_record() {
  [[ $_nemoterm_from ]] && IFS= builtin read -r -t 0 -u "$_nemoterm_from"
}

# Takes in an answer to the last request. Fails where there is none.
__nemoterm_receive() {
  __nemoterm_has_record || return 1
  local record fields
  # A record is there as a whole, so this takes no time. Where its time is over, bash loses what it has read just then.
  # And bash 5.2 runs traps while it reads, and dies where one of them reads too, as that for a new window size does. ble.sh's own
  # way to read has the trap wait.
  IFS= ble/bash/read -d '' -t 1 -u "$_nemoterm_from" record 2>/dev/null || {
    (( $? > 128 )) || __nemoterm_detach
    return 1
  }
  ble/string#split fields $'\x1f' "$record"
  [[ ${fields[0]} == "$_nemoterm_sequence" && ${#fields[@]} -gt 3 && "${fields[*]}" != *[[:cntrl:]]* ]] || return 1
  _nemoterm_for=$_nemoterm_asked _nemoterm_found=("${fields[@]:3}") _nemoterm_replaces=
  [[ ${fields[1]} == replace ]] && _nemoterm_replaces=1
  # Nothing follows the model's answer.
  [[ ${fields[2]} == model ]] && _nemoterm_patience=0
  return 0
}

# Listens for an answer until there is one, somebody types or so many times two milliseconds are over. Fails without one.
__nemoterm_listen() {
  # A line that is drawn anew for a new window size while ble.sh looks for keys, which it does with another locale, would be drawn
  # wrongly. So that waits until we are done.
  local looks=$1 outcome=1 _ble_app_onwinch_Suppress=1
  while [[ ! ${_ble_app_onwinch_Deferred-} ]] && (( looks-- > 0 && _nemoterm_patience-- > 0 )); do
    ble/decode/has-input && { outcome=148; break; }
    __nemoterm_receive && { outcome=0; break; }
    ble/util/msleep 2
  done
  ble/util/unlocal _ble_app_onwinch_Suppress
  [[ ${_ble_app_onwinch_Deferred-} ]] && ble/application/onwinch
  return "$outcome"
}

# Asks about the line; `type` as it is typed, `ask` when the user wants to know.
__nemoterm_ask() {
  (( ++_nemoterm_sequence ))
  _nemoterm_how=$1 _nemoterm_asked=$_ble_edit_str _nemoterm_cursor=$_ble_edit_ind _nemoterm_step=0 _nemoterm_chosen=
  _nemoterm_for= _nemoterm_found=() _nemoterm_eager=150 _nemoterm_patience=550
  [[ $1 == ask ]] && _nemoterm_patience=1150
  __nemoterm_send "$_nemoterm_sequence" "$1" "$_ble_edit_ind" "$_ble_edit_str" || {
    _nemoterm_patience=0
    return 1
  }
}

# --- what is shown

# Whether what stands after the cursor is a suggestion of ours, which ble.sh puts into the line.
__nemoterm_visible() {
  [[ $_ble_decode_keymap == auto_complete && $_nemoterm_shown && $_ble_edit_mark -eq ${#_ble_edit_str} ]] || return 1
  [[ $_nemoterm_replaces && ${_ble_edit_str::_ble_edit_ind} == "$_nemoterm_for" ]] || [[ $_ble_edit_str == "$_nemoterm_shown" ]]
}

__nemoterm_take_away() {
  _nemoterm_shown=
  ble/widget/auto_complete/cancel
}

# Shows a suggestion that continues the line, or takes its place.
__nemoterm_show() {
  local line=$_nemoterm_for$1
  if [[ $_nemoterm_replaces ]]; then
    ble/complete/auto-complete/enter r 0 "  -> $1" "$1" "$1" || return 1
    line=$_ble_edit_str
  else
    ble/complete/auto-complete/enter h 0 "$1" '' "$line" || return 1
  fi
  _nemoterm_shown=$line
}

# Sets `suggestion` to the one to be shown for the line up to the cursor; fails where none fits.
__nemoterm_fit() {
  local typed=${_ble_edit_str::_ble_edit_ind} found
  (( ${#_nemoterm_found[@]} )) && [[ $typed == "$_nemoterm_for"* ]] || return 1
  typed=${typed:${#_nemoterm_for}}
  [[ $_nemoterm_replaces && $typed ]] && return 1
  for found in "$_nemoterm_chosen" "${_nemoterm_found[@]}"; do
    [[ $found == "$typed"?* ]] || continue
    suggestion=${found:${#typed}}
    return 0
  done
  return 1
}

# What has been typed since the answer was given is part of the line from now on.
__nemoterm_move_on() {
  local typed=${_ble_edit_str:${#_nemoterm_for}:_ble_edit_ind-${#_nemoterm_for}} found
  [[ $typed ]] || return 0
  local -a fitting=()
  for found in "${_nemoterm_found[@]}"; do
    [[ $found == "$typed"?* ]] && fitting+=("${found:${#typed}}")
  done
  _nemoterm_for+=$typed _nemoterm_found=("${fitting[@]}") _nemoterm_chosen=${_nemoterm_chosen#"$typed"}
}

# Puts what was found on the screen, in the place of what we had there. What others suggest stays.
__nemoterm_update() {
  local suggestion
  case $_ble_decode_keymap in
    (auto_complete)
      __nemoterm_visible || return 0
      local shown=${_ble_edit_str:_ble_edit_ind} at=$_ble_edit_ind
      __nemoterm_fit || return 0
      [[ $_nemoterm_replaces ]] && shown=${shown#'  -> '}
      # As long as it is among what was found, it stays.
      (( _nemoterm_step )) || [[ $suggestion != "$shown" ]] || return 0
      __nemoterm_move_on
      if (( _nemoterm_step )); then
        local step=$_nemoterm_step
        _nemoterm_step=0
        __nemoterm_turn "$step" "$shown" || return 0
        suggestion=$_nemoterm_chosen
      fi
      __nemoterm_take_away ;;
    (emacs|vi_imap)
      # The source has given up waiting, or nothing is typed, or it was asked for.
      [[ $_ble_edit_str == "$_nemoterm_asked" && $_ble_edit_ind -eq $_nemoterm_cursor ]] || return 0
      if (( _ble_edit_ind < ${#_ble_edit_str} )); then
        __nemoterm_put_fill
        return
      fi
      __nemoterm_fit || return 0
      __nemoterm_move_on ;;
    (*) return 0 ;;
  esac
  __nemoterm_show "$suggestion" && ble/application/render
}

# Sets _nemoterm_chosen to what is $1 further on than $2 in the suggestions.
__nemoterm_turn() {
  local count=${#_nemoterm_found[@]} i
  (( count > 1 )) || return 1
  for i in "${!_nemoterm_found[@]}"; do
    [[ ${_nemoterm_found[i]} == "$2" ]] && break
  done
  _nemoterm_chosen=${_nemoterm_found[(i + $1 + count) % count]}
}

# --- when it is asked

__nemoterm_may_ask() {
  [[ $_nemoterm_to && -z ${NEMOTERM_OFF-} && ${NEMOTERM_MODE-} != hotkey ]]
}

# What ble.sh calls when something was typed and nothing else is there to do.
ble/complete/auto-complete/source:nemoterm() {
  __nemoterm_may_ask && (( _ble_edit_ind == ${#_ble_edit_str} )) || return 1
  [[ $_ble_edit_str == *[!$' \t\n']* && $_ble_edit_str != *$'\n'* ]] || return 1
  _nemoterm_fresh=
  local suggestion
  if ! __nemoterm_fit; then
    [[ $_nemoterm_asked == "$_ble_edit_str" ]] || __nemoterm_ask type || return 1
    # Where ble.sh has waited before it asked us, our task has had its turn already, and would not listen before the next key.
    __nemoterm_push_idle
    # No longer than somebody would wait for a suggestion of ble.sh's own.
    __nemoterm_listen 30 || return
    __nemoterm_fit || return 1
  fi
  __nemoterm_move_on
  __nemoterm_show "$suggestion" || return 1
  ble/application/render
  # Or the next source is asked.
  return 0
}

# After that, whenever ble.sh has nothing to do: better answers, and what comes before anything is typed.
__nemoterm_idle() {
  ble/util/idle.wait-user-input
  if [[ -z $_ble_edit_str ]]; then
    [[ $_nemoterm_fresh && ${NEMOTERM_NEXT_COMMAND-} != off && $_ble_decode_keymap == @(emacs|vi_imap) ]] &&
      __nemoterm_may_ask && __nemoterm_ask type
    _nemoterm_fresh=
  fi
  while __nemoterm_listen "$_nemoterm_eager"; do __nemoterm_update; done
  # What takes longer is not worth it that others wait.
  _nemoterm_eager=1
  (( _nemoterm_patience > 0 )) && ble/util/idle.sleep 5
  return 0
}

# Has that done next, after the task that asks the sources.
__nemoterm_push_idle() {
  ble/util/idle.cancel __nemoterm_idle
  ble/util/idle.push -n 20000 __nemoterm_idle
}

# --- lines

__nemoterm_precmd() {
  local status=$?
  # ble.sh calls this once more in the middle of a line that gets another width.
  [[ $_nemoterm_line && $_nemoterm_line == "${_ble_edit_lineno-}" ]] && return 0
  _nemoterm_line=${_ble_edit_lineno-}
  # What it said before is no news, but its end is.
  local i
  for (( i = 0; i < 50; i++ )); do
    __nemoterm_has_record || break
    __nemoterm_receive
  done
  _nemoterm_asked= _nemoterm_shown= _nemoterm_found=() _nemoterm_patience=0 _nemoterm_fresh= _nemoterm_fills=()
  [[ $_nemoterm_ran ]] && _nemoterm_fresh=1
  # One that ends again and again is started less and less often.
  if [[ -z $_nemoterm_to ]] && (( --_nemoterm_pause <= 0 )); then
    (( ++_nemoterm_failures, _nemoterm_pause = _nemoterm_failures * _nemoterm_failures ))
    __nemoterm_attach || __nemoterm_detach
  fi
  __nemoterm_send 0 event "$status" "$PWD" "$_nemoterm_ran" && _nemoterm_ran=
  return 0
}

__nemoterm_preexec() { _nemoterm_ran=$1; }

# ble.sh has put something of a suggestion into the line. What is typed as suggested is told with no text before it.
__nemoterm_taken() {
  [[ $comp_text && $_nemoterm_shown == @("$insert"|"$_ble_edit_str"|"$comp_text") ]] || return 0
  local text=$insert
  [[ $insert == "$comp_text"?* ]] && text=${insert:${#comp_text}}
  # A word: what is told is the line and that, and this the name it has where it is told.
  [[ ${ins-} ]] && text=$ins
  __nemoterm_send 0 accept "$text"
}

# --- keys

ble/widget/nemoterm/next() { __nemoterm_go 1; }
ble/widget/nemoterm/previous() { __nemoterm_go -1; }

# Shows the suggestion that is $1 further on. The first time, more are asked for.
__nemoterm_go() {
  __nemoterm_visible || {
    ble/widget/auto_complete/cancel-default
    return
  }
  local suggestion shown=${_ble_edit_str:_ble_edit_ind} all=$_ble_edit_str at=$_ble_edit_ind
  [[ $_nemoterm_replaces ]] && shown=${shown#'  -> '}
  if [[ $_nemoterm_how != ask ]]; then
    local line=${_ble_edit_str::_ble_edit_ind}
    __nemoterm_move_on
    local for=$_nemoterm_for found=("${_nemoterm_found[@]}")
    _ble_edit_str=$line __nemoterm_ask ask || return 0
    _nemoterm_for=$for _nemoterm_found=("${found[@]}")
    (( ${#found[@]} > 1 )) || _nemoterm_step=$1
  else
    __nemoterm_move_on
  fi
  __nemoterm_turn "$1" "$shown" || return 0
  __nemoterm_take_away
  __nemoterm_show "$_nemoterm_chosen"
}

ble/widget/nemoterm/ask() {
  if __nemoterm_visible; then
    __nemoterm_go 1
    return
  fi
  [[ $_ble_decode_keymap == auto_complete ]] && ble/widget/auto_complete/cancel
  [[ $_nemoterm_to && -z ${NEMOTERM_OFF-} ]] || return 0
  if (( _ble_edit_ind < ${#_ble_edit_str} )) && __nemoterm_fill_stands; then
    __nemoterm_put_fill
  else
    _nemoterm_fills=() _nemoterm_fill=0
    __nemoterm_ask ask
  fi
  return 0
}

ble/widget/nemoterm/dismiss() {
  # The next key asks anew.
  _nemoterm_shown= _nemoterm_patience=0
  if [[ ${_ble_decode_keymap_stack[*]} == *vi_imap* ]]; then
    # Where Esc leaves insert mode too.
    ble/widget/auto_complete/cancel-default
  else
    ble/widget/auto_complete/cancel
  fi
}

# Whether what the cursor stands after is one of ours.
__nemoterm_fill_stands() {
  local with=${_nemoterm_asked::_nemoterm_cursor}${_nemoterm_fills[_nemoterm_fill]-}
  (( ${#_nemoterm_fills[@]} )) && [[ $_ble_edit_ind -eq ${#with} ]] &&
    [[ $_ble_edit_str == "$with${_nemoterm_asked:_nemoterm_cursor}" ]]
}

# Puts the next of what leads up to the rest of the line before it, and at last what stood there.
__nemoterm_put_fill() {
  local before=$_nemoterm_cursor text
  if (( ${#_nemoterm_fills[@]} == 0 )); then
    _nemoterm_fills=("${_nemoterm_found[@]}" '') _nemoterm_fill=0
  elif __nemoterm_fill_stands; then
    (( _nemoterm_fill = (_nemoterm_fill + 1) % ${#_nemoterm_fills[@]} ))
  else
    return 0
  fi
  text=${_nemoterm_fills[_nemoterm_fill]}
  ble-edit/content/replace "$before" "$_ble_edit_ind" "$text"
  (( _ble_edit_ind = before + ${#text} ))
  ble/application/render
}

# Binds the keys of an array, which are as `bind` takes them, or that one where there is no such array.
__nemoterm_bind() { # MAPS WIDGET ARRAY [KEY]
  local map key keys="$3[@]"
  if builtin declare -p "$3" &>/dev/null; then set -- "$1" "$2" "$3" "${!keys}"; fi
  for key in "${@:4}"; do
    for map in $1; do ble-bind -m "$map" -f "keyseq:$key" "$2"; done
  done
}

__nemoterm_bind_keys() {
  local IFS=$' \t\n'
  __nemoterm_bind auto_complete auto_complete/insert-on-end NEMOTERM_KEY_ACCEPT
  __nemoterm_bind auto_complete auto_complete/insert-word NEMOTERM_KEY_WORD
  __nemoterm_bind auto_complete nemoterm/next NEMOTERM_KEY_NEXT '\e]'
  __nemoterm_bind auto_complete nemoterm/previous NEMOTERM_KEY_PREVIOUS '\e{'
  __nemoterm_bind auto_complete nemoterm/dismiss NEMOTERM_KEY_DISMISS '\e'
  __nemoterm_bind 'emacs vi_imap auto_complete' nemoterm/ask NEMOTERM_KEY_ASK '\C-@'
}

# --- beginning

# Not before this part of ble.sh is there, which it loads when nobody types.
__nemoterm_join() {
  ble/array#remove _ble_complete_auto_source nemoterm
  ble/array#unshift _ble_complete_auto_source nemoterm
  __nemoterm_bind_keys
  __nemoterm_push_idle
  blehook complete_insert!=__nemoterm_taken
}

blehook PRECMD!=__nemoterm_precmd
blehook PREEXEC!=__nemoterm_preexec
blehook/eval-after-load complete __nemoterm_join

fi

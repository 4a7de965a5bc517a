# nemoterm for bash: the rest of the command as ghost text while you type.
#
#   eval "$(nemoterm init bash)"
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
#   NEMOTERM_KEY_DISMISS    arrays of keys as `bind` takes them, like '\C-f'; an empty array binds none
#   NEMOTERM_HIGHLIGHT      look of the ghost, in parameters of SGR (at any time; default 90)
#   NEMOTERM_MODE           "hotkey" suggests only when asked (at any time; default "type")
#   NEMOTERM_NEXT_COMMAND   "off" suggests nothing before something is typed (at any time)
#   NEMOTERM_OFF            anything but empty turns this shell's suggestions off (at any time)
#   NEMOTERM_BASH_BUILTIN   the builtin to load, instead of the one that is installed with nemoterm; empty for none
# `nemoterm off` and `nemoterm on` work for all shells at once.
#
# With ble.sh, which is to be loaded before this, none of the following is done; see the end of this.
#
# How it works: a builtin that is loaded into bash (crates/bash in the sources) draws after the line, and asks one
# `nemoterm attach` a shell.
#
# Without the builtin, Ctrl-Space (the first of NEMOTERM_KEY_ASK) shows a suggestion, the keys above act on it, and every
# other key dismisses it and does what it always does. That key is a macro of two key sequences no terminal sends.
# The first runs the handler, in which `nemoterm hotkey` draws and reads keys. The second is what the handler binds
# it to: the key that was not for us.

# Needs a readline of its own: not a script, not ble.sh, and a bash that can expand its prompt (4.4).
if [[ $- == *i* && $TERM != dumb && :$SHELLOPTS: =~ :(emacs|vi): && -z ${BLE_VERSION-} && -n ${PS1@P} ]] 2>/dev/null; then

__nemoterm_program=@NEMOTERM@

# Loads the builtin, and fails where there is none that this bash takes.
__nemoterm_load() {
  local beside=${__nemoterm_program%/*} file action keys
  local -a files=("$beside"/libnemoterm_bash.{so,dylib} "$beside"/../lib/nemoterm/libnemoterm_bash.{so,dylib})
  [[ -n ${NEMOTERM_BASH_BUILTIN+set} ]] && files=("$NEMOTERM_BASH_BUILTIN")
  for file in "${files[@]}"; do
    [[ -f $file ]] && builtin enable -f "$file" nemoterm_ghost || continue
    for action in accept word next previous ask dismiss; do
      keys=NEMOTERM_KEY_${action^^}
      builtin declare -p "$keys" || continue
      keys+='[@]'
      builtin nemoterm_ghost keys "$action" ${!keys+"${!keys}"}
    done
    builtin nemoterm_ghost start "$__nemoterm_program" "${HISTFILE-}"
    return
  done
  return 1
} &>/dev/null

__nemoterm_hotkey() {
  local answer verb text keys
  builtin bind '"\C-x\C-_2": ""'
  [[ -z ${NEMOTERM_OFF-} && -n $READLINE_LINE ]] || return 0
  answer=$(
    HISTTIMEFORMAT='' builtin fc -ln -200 |
      "$__nemoterm_program" hotkey --shell bash --line "$READLINE_LINE" --cursor "$READLINE_POINT" \
        ${HISTFILE:+--histfile "$HISTFILE"} --recent --prompt "${PS1@P}"
  ) 2>/dev/null || return 0
  { IFS= read -r verb; IFS= read -r text; IFS= read -r keys; } <<<"$answer"
  case $verb in
    add)
      READLINE_LINE=${READLINE_LINE:0:READLINE_POINT}$text${READLINE_LINE:READLINE_POINT}
      (( READLINE_POINT += ${#text} ))
      ;;
    replace)
      READLINE_LINE=$text
      READLINE_POINT=${#READLINE_LINE}
      ;;
  esac
  keys=${keys// /}
  if [[ $keys =~ ^[0-9a-f]+$ ]]; then
    local macro=
    while [[ -n $keys ]]; do
      macro+="\\x${keys:0:2}"
      keys=${keys:2}
    done
    builtin bind "\"\\C-x\\C-_2\": \"$macro\""
  fi
}

__nemoterm_bind() {
  local map
  for map in emacs-standard vi-insert; do
    builtin bind -m "$map" -x '"\C-x\C-_1": __nemoterm_hotkey'
    builtin bind -m "$map" '"\C-x\C-_2": ""'
    builtin bind -m "$map" "\"${NEMOTERM_KEY_ASK-\\C-@}\": \"\\C-x\\C-_1\\C-x\\C-_2\""
  done
} 2>/dev/null

__nemoterm_load || __nemoterm_bind

fi

# nemoterm for bash: a suggestion for the rest of the command when you ask for it.
#
#   eval "$(nemoterm init bash)"
#
# Ctrl-Space shows a suggestion after the line. Then
#   Right, End, Ctrl-F, Ctrl-E    accept it
#   Alt-Right, Alt-F              accept its next word
#   Alt-], Ctrl-Space and Alt-[   show the next and the previous one
#   Esc, Ctrl-G                   dismiss it
# and every other key dismisses it and does what it always does.
#
# Settings:
#   NEMOTERM_KEY_ASK   the key, as `bind` takes it (before this is evaluated; default \C-@, which is Ctrl-Space)
#   NEMOTERM_OFF       anything but empty turns this shell's suggestions off (at any time)
# `nemoterm off` and `nemoterm on` work for all shells at once.
#
# How it works: the key is a macro of two key sequences no terminal sends. The first runs the handler, in which
# `nemoterm hotkey` draws and reads keys. The second is what the handler binds it to: the key that was not for us.

# Needs a readline of its own: not a script, not ble.sh, and a bash that can expand its prompt (4.4).
if [[ $- == *i* && $TERM != dumb && :$SHELLOPTS: =~ :(emacs|vi): && -z ${BLE_VERSION-} && -n ${PS1@P} ]] 2>/dev/null; then

__nemoterm_program=@NEMOTERM@

__nemoterm_hotkey() {
  local answer verb text keys
  builtin bind '"\C-x\C-_2": ""'
  [[ -z ${NEMOTERM_OFF-} && -n $READLINE_LINE && $READLINE_POINT -ge ${#READLINE_LINE} ]] || return 0
  answer=$(
    HISTTIMEFORMAT='' builtin fc -ln -200 |
      "$__nemoterm_program" hotkey --shell bash --line "$READLINE_LINE" --cursor "$READLINE_POINT" \
        ${HISTFILE:+--histfile "$HISTFILE"} --recent --prompt "${PS1@P}"
  ) 2>/dev/null || return 0
  { IFS= read -r verb; IFS= read -r text; IFS= read -r keys; } <<<"$answer"
  case $verb in
    add) READLINE_LINE+=$text ;;
    replace) READLINE_LINE=$text ;;
  esac
  READLINE_POINT=${#READLINE_LINE}
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
__nemoterm_bind

fi

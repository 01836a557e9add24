# What the whole system trusts.

find_system() {
  if has_tool update-ca-certificates; then
    system_tool=update-ca-certificates system_folder=/usr/local/share/ca-certificates system_ending=crt
    system_bundle=/etc/ssl/certs/ca-certificates.crt system_links=/etc/ssl/certs
  elif has_tool update-ca-trust; then
    system_tool=update-ca-trust system_folder=/etc/pki/ca-trust/source/anchors system_ending=pem
    system_bundle=/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem system_links=''
  else
    return 1
  fi
}

is_system_file() {
  case ${1%/*} in
    /usr/local/share/ca-certificates | /etc/pki/ca-trust/source/anchors) ;;
    *) return 1 ;;
  esac
}

# is_in_bundle FILE: whether its certificate is in $system_text.
is_in_bundle() {
  text=$(cat "$1")
  text=${text#*-----"$nl"} text=${text%"$nl"-----*}
  case $system_text in *"$text"*) ;; *) return 1 ;; esac
}

check_system() {
  find_system ||
    stop 'neither update-ca-certificates nor update-ca-trust is installed: a store of kind system needs one'
}

lay_system() {
  check_system
  system_text=$(cat "$system_bundle" 2>/dev/null)
  mode=644
  each_certificate "$content" lay_system_anchor
}

lay_system_anchor() {
  lay "$pem" "$system_folder/$entry.$system_ending"
  system_files="$system_files$pem "
  is_in_bundle "$pem" || refresh=1
  case $renames in *" $system_folder/$entry.$system_ending$nl"*) refresh=1 ;; esac
}

# unlink_left: update-ca-certificates leaves the links to a file that is gone, unless another one came or went by
# its own configuration. Others of the subject are then numbered anew: OpenSSL stops at the first number that is free.
unlink_left() {
  renumber=''
  IFS=$nl
  for row in $own; do
    IFS=$blanks
    set -- $row
    [ "$1" = file ] && is_system_file "$2" && [ ! -e "$2" ] || continue
    linked=${2##*/}
    linked=${linked%.*}.pem
    [ "$system_links" ] && [ "$(readlink "$system_links/$linked")" = "$2" ] || continue
    rm -f "$system_links/$linked"
    for link in "$system_links"/????????.*; do
      if [ -L "$link" ] && [ "$(readlink "$link")" = "$linked" ]; then rm -f "$link" && renumber=1; fi
    done
  done
  IFS=$blanks
  # It fails for dangling links of others as well, which are not ours to judge.
  [ -z "$renumber" ] || tool openssl rehash "$system_links" || :
}

# refresh_system: 1 where it failed, with $why.
refresh_system() {
  find_system || return 0
  umask 022
  unlink_left
  tool "$system_tool" || {
    umask 077
    cause
    why="$system_tool: $cause"
    return 1
  }
  umask 077
  system_text=$(cat "$system_bundle" 2>/dev/null)
  for pem in $system_files; do
    is_in_bundle "$pem" || {
      why="$system_tool did not put the anchors into $system_bundle"
      return 1
    }
  done
}

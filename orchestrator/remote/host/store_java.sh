# Keystores of Java: keytool works on a copy, which then takes the place of the keystore by one rename.

run_keytool() { tool keytool -J-XX:-UsePerfData -J-XX:TieredStopAtLevel=1 "$@"; }

# see_java KEYSTORE ALIAS PASSWORD: sets $seen to the kind of that entry and its certificates; empty: there is none.
see_java() {
  seen='' seen_type=''
  if ! run_keytool -list -rfc -keystore "$1" -alias "$2" -storepass:file "$3"; then
    case $why in *'does not exist'*) return 0 ;; *) return 1 ;; esac
  fi
  case $why in *PrivateKeyEntry*) seen_type=key ;; *trustedCertEntry*) seen_type=anchor ;; esac
  bodies "$why"
  seen=$seen_type$nl$bodies
}

# check_keystore: whether keytool may work on it, or make it.
check_keystore() {
  need_tool keytool
  is_sound "${keystore%/*}" || refuse_place "$culprit"
  if [ -L "$keystore" ]; then stop "$keystore is a symbolic link"; fi
  [ -e "$keystore" ] || return 0
  [ -f "$keystore" ] || stop "$keystore is no plain file"
  [ -e "$password_path" ] || stop "there is no password in $password_path, by which $keystore could be opened"
}

lay_java() {
  check_keystore
  find_password
  if [ "$holds" = credential ]; then
    entry=$name
    lay_java_key
  else
    each_certificate "$content" lay_java_anchor
  fi
  if is_ours "keystore $keystore" && [ -e "$keystore" ] && ! has_access "$keystore"; then
    copy_keystore
    keep_access
  fi
  if [ ! -e "$keystore" ] || is_ours "keystore $keystore"; then
    listed="${listed}keystore $keystore - $password_path$nl"
  fi
}

# claim_in_java: refuses an entry that is not ours to write to; sets $seen, and $adopting where it becomes ours.
claim_in_java() {
  adopting=''
  see_java_now
  if [ -z "$seen" ] || is_ours "java $keystore $entry"; then return 0; fi
  [ "$adopt" ] ||
    stop "the entry $entry in $keystore is not keyrelay's: remove it, or let the store adopt it (adopt: yes)"
  adopting=1
}

look_into_java() {
  claim_in_java
  if [ "$adopting" ] && [ "$role" = server ]; then keep_entry; fi
}

# keep_entry: as `keep`, in a keystore of its own under the same password.
keep_entry() {
  fresh "$keystore"
  copy_entry "$current" "$fresh" -deststoretype PKCS12
  adopted="${adopted}java $keystore $entry $fresh$nl"
}

# copy_entry KEYSTORE KEYSTORE ARGUMENT…
copy_entry() {
  from=$1 into=$2
  shift 2
  run_keytool -importkeystore -noprompt -srckeystore "$from" -srcstorepass:file "$password" -srcalias "$entry" \
    -destkeystore "$into" -deststorepass:file "$password" -destalias "$entry" "$@" || keytool_fails
}

see_java_now() {
  seen=''
  current_keystore
  [ -e "$current" ] || return 0
  see_java "$current" "$entry" "$password" || {
    cause
    stop "keytool cannot read $keystore: $cause"
  }
}

lay_java_key() {
  look_into_java
  sum_of "$seen"
  case $nl$own in
    *"${nl}java $keystore $entry $sum "*)
      if [ "$seen" ] && is_filled_alike; then
        listed="${listed}java $keystore $entry $sum $password_path$nl"
        return 0
      fi
      ;;
  esac
  copy_keystore
  need_secret
  bundle_key "$room/key.p12" "$entry" "$work/secret" $chained
  set -- -srckeystore "$room/key.p12" -srcstoretype PKCS12 -srcstorepass:file "$work/secret" -srcalias "$entry" \
    -destkeystore "$copy" -deststorepass:file "$password" -destkeypass:file "$password" -destalias "$entry"
  [ -e "$copy" ] || set -- "$@" -deststoretype PKCS12
  run_keytool -importkeystore -noprompt "$@" || keytool_fails
  wipe "$room/key.p12"
  bodies "$(cat "$source/cert.pem")"
  expected=key$nl$bodies
  keep_access
  see_java "$copy" "$entry" "$password" && case $seen in "$expected"*) ;; *) false ;; esac || keytool_fails
  sum_of "$seen"
  listed="${listed}java $keystore $entry $sum $password_path$nl"
}

lay_java_anchor() {
  expected=anchor$nl$body$nl
  look_into_java
  sum_of "$expected"
  listed="${listed}java $keystore $entry $sum $password_path$nl"
  [ "$seen" != "$expected" ] || return 0
  copy_keystore
  [ -z "$seen" ] || run_keytool -delete -keystore "$copy" -alias "$entry" -storepass:file "$password" || keytool_fails
  set -- -keystore "$copy" -alias "$entry" -file "$pem" -storepass:file "$password"
  [ -e "$copy" ] || set -- "$@" -storetype PKCS12
  run_keytool -importcert -noprompt "$@" || keytool_fails
  keep_access
  see_java "$copy" "$entry" "$password" && [ "$seen" = "$expected" ] || keytool_fails
}

keytool_fails() {
  cause
  stop "keytool cannot write $keystore: $cause"
}

# current_keystore: sets $current to our copy of the keystore if there is one, else to itself.
current_keystore() {
  find_coming "$keystore"
  current=${coming:-"$keystore"}
}

# copy_keystore: sets $copy, which takes the keystore's place; tells in $originals of what it is a copy.
copy_keystore() {
  current_keystore
  copy=$current
  [ "$copy" = "$keystore" ] || return 0
  fresh "$keystore"
  copy=$fresh renames="$renames$fresh $keystore$nl"
  if [ ! -e "$keystore" ]; then
    originals="$originals$keystore -$nl"
    return
  fi
  hashes "$keystore" || cannot_write "${keystore%/*}"
  originals="$originals$keystore ${hashes# }$nl"
  why=$(dd if="$keystore" of="$copy" bs=65536 2>&1) || cannot_write "${keystore%/*}"
}

# keep_access: the copy is as the keystore that it takes the place of; one that we have made, as the store says.
keep_access() {
  if [ "$mode" ] && { [ ! -e "$keystore" ] || is_ours "keystore $keystore"; }; then
    give_access "$copy" "$keystore"
    return
  fi
  set -- $(stat -c '%u:%g %a' "$keystore")
  why=$(chown "$1" "$copy" 2>&1 && chmod "$2" "$copy" 2>&1) || {
    cause
    stop "cannot keep the owner of $keystore: $cause"
  }
}

# leave_java KEYSTORE ALIAS PASSWORD
leave_java() {
  [ -f "$1" ] || return 0
  keystore=$1 entry=$2 password=$3 kind=java mode=''
  need_tool keytool
  is_sound "${keystore%/*}" || refuse_place "$culprit"
  see_java_now
  [ "$seen" ] || return 0
  refuse_changed "java $keystore $entry" "$entry in $keystore"
  copy_keystore
  run_keytool -delete -keystore "$copy" -alias "$entry" -storepass:file "$password" || keytool_fails
  give_back "java $keystore $entry" "$keystore"
  [ -z "$kept" ] || copy_entry "$kept" "$copy"
  keep_access
}

# leave_keystore KEYSTORE PASSWORD: one that we have made goes when nothing is in it; else it stays under its password.
leave_keystore() {
  [ -f "$1" ] || return 0
  keystore=$1
  current_keystore
  run_keytool -list -keystore "$current" -storepass:file "$2" || why=''
  case $why in *'contains 0 entries'*) leave "$1" ;; *) locked="$locked- $2$nl" ;; esac
}

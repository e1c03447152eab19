# Lets Proxmox download a container template into its storage and prove its checksum. A file that
# is there already is proven and kept. Nothing is ever replaced or deleted.
# shellcheck shell=sh
set -eu

# shellcheck source=/dev/null
. "$HAKIM_LIBRARY"

answer=$(api POST "/nodes/$HAKIM_NODE/storage/$HAKIM_STORAGE/download-url" \
  "content=vztmpl" "filename=$HAKIM_FILE_NAME" "url=$HAKIM_URL" \
  "checksum=$HAKIM_SHA256" "checksum-algorithm=sha256") \
  || fail "Proxmox does not start the download of $HAKIM_URL into $HAKIM_STORAGE: $answer. The token needs Datastore.AllocateTemplate on the storage and Sys.AccessNetwork on the node; or promote the template first and leave its URL empty."
upid=$(printf %s "$answer" | field data)
[ -n "$upid" ] || fail "Proxmox answered the download of $HAKIM_URL with: $answer"
node=$(printf %s "$upid" | cut -d : -f 2)
task="/nodes/$node/tasks/$upid"

end=$(($(date +%s) + 1800))
while :; do
  status=$(api GET "$task/status") || status=
  [ "$(printf %s "$status" | field status)" != stopped ] || break
  [ "$(date +%s)" -lt "$end" ] || fail "Proxmox did not download $HAKIM_URL within half an hour."
  sleep 1
done

result=$(printf %s "$status" | field exitstatus)
case $result in
  OK | WARNINGS:*) echo "$HAKIM_STORAGE:vztmpl/$HAKIM_FILE_NAME is there, and its checksum is right." ;;
  *) fail "Proxmox could not download $HAKIM_URL into $HAKIM_STORAGE: $result" ;;
esac

#cloud-boothook
#!/bin/sh
# Rendered by lbctl: its programs in the guest, in place before cloud-init writes the files of the user-data that name them.
# cloud-init runs this at each boot; it does something only where the instance-id is another one.
set -eu
done=/var/lib/lbctl/programs-of
if [ -e "$done" ] && [ "$(cat "$done")" = "$INSTANCE_ID" ]; then
    exit 0
fi
umask 022
mkdir -p {{ folder }}/lbctl_guest /var/lib/lbctl
{%- for program in programs %}
printf %s {{ program.text }} >{{ program.path }}
{%- if program.executable %}
chmod 0755 {{ program.path }}
{%- endif %}
{%- endfor %}
printf %s "$INSTANCE_ID" >"$done"

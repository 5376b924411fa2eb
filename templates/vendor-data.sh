#cloud-boothook
#!/bin/sh
# Rendered by lbctl: its files in the guest that are the same in every VM, in place before cloud-init writes those of the
# user-data. cloud-init runs this at each boot; it does something only where the instance-id is another one.
set -eu
done=/var/lib/lbctl/programs-of
if [ -e "$done" ] && [ "$(cat "$done")" = "$INSTANCE_ID" ]; then
    exit 0
fi
umask 022
mkdir -p /var/lib/lbctl{% for folder in folders %} {{ folder.display() }}{% endfor %}
{%- for file in files %}
printf %s {{ file.text }} >{{ file.path }}
{%- if file.executable %}
chmod 0755 {{ file.path }}
{%- endif %}
{%- endfor %}
printf %s "$INSTANCE_ID" >"$done"
{%- if early %}
# Nothing is to be installed or set up: the load balancer starts when the user-data's files are written, beside
# cloud-init's last stages, and after what an earlier boot has made a part of each. The last stage waits for it, and
# starts whatever it could not. A unit that nothing starts is not named: systemd would read it at once, and all of its
# units anew when cloud-init has written another one over it, which takes a small guest many seconds.
after='{{ files_written.join(" ") }}'
for unit in {{ services.join(" ") }}; do
    if [ -L "/etc/systemd/system/multi-user.target.wants/$unit" ]; then
        after="$after $unit"
    fi
done
systemd-run --quiet --collect --no-block --unit=lbctl-early --property="After=$after" \
    {{ guest_program }} early || true
{%- endif %}

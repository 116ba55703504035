//! The scripts' text.
//!
//! `--timeout` counts from the last progress, so it bounds a dead server and not a slow one.
//! Commands after `||` run when the ones before fail; a trailing `||` ignores a failure.

/// Kernel, initrd and start, from each server in turn.
pub(super) const DEVICE: &str = r"#!ipxe
echo Headwater: {{ device }} starts {{ vdisk }} version {{ version }}
iseq ${platform} efi && set headwater-efi initrd={{ initrd_name }} ||
{% for source in sources %}
:server{{ loop.index }}
imgfree ||
kernel --timeout 5000 --name vmlinuz {{ source.kernel }} ${headwater-efi} rdinit={{ rdinit }} root={{ root }} ro {{ plan_parameter }}={{ plans }} {{ address_parameter }}=${ip}/${netmask}/${gateway}/${mac}{% if args %} {{ args }}{% endif %} || goto server{{ loop.index + 1 }}
initrd --timeout 5000 --name {{ initrd_name }} {{ source.initrd }} || goto server{{ loop.index + 1 }}
boot ||
{% endfor %}
:server{{ sources | length + 1 }}
echo Headwater: no server could start {{ device }}; trying again in 10 seconds
sleep 10
reboot
";

/// A device that may choose what it boots. Whoever leaves the menu gets the default, as whoever
/// does not touch it: a machine in a rack must not wait for a key that was pressed by accident.
pub(super) const MENU: &str = r"#!ipxe
:menu
menu Headwater: what shall {{ device }} start?
{% for entry in entries %}
item {% if loop.index < 10 %}--key {{ loop.index }} {% endif %}{{ entry }} {{ loop.index }}. {{ entry }}{% if loop.first %} (in {{ timeout_s }} seconds){% endif %}

{% endfor %}
choose --default {{ entries[0] }} --timeout {{ timeout_s * 1000 }} vdisk || set vdisk {{ entries[0] }}
echo Headwater: {{ device }} starts ${vdisk}
chain --timeout 10000 --replace --autofree {{ script }}&vdisk=${vdisk} ||
echo Headwater: no answer; trying again in 5 seconds
sleep 5
goto menu
";

/// A device that waits for an admin.
pub(super) const PENDING: &str = r"#!ipxe
echo Headwater: this device ({{ mac }}) is not known yet and waits to be accepted.
echo hint: headwater pending accept {{ mac }}
sleep 30
chain --timeout 10000 --replace --autofree {{ again }} || reboot
";

/// A device that another server can boot.
pub(super) const ELSEWHERE: &str = r"#!ipxe
{% for line in lines %}
echo Headwater: {{ line }}
{% endfor %}
{% for script in scripts %}
echo Headwater: asking {{ script }}
chain --timeout 10000 --replace --autofree {{ script }} ||
{% endfor %}
echo Headwater: no answer; rebooting in 10 seconds
sleep 10
reboot
";

/// A device that cannot boot.
pub(super) const ERROR: &str = r"#!ipxe
{% for line in lines %}
echo Headwater: {{ line }}
{% endfor %}
echo Headwater: rebooting in 30 seconds
sleep 30
reboot
";

/// From boot media to the device's script. DHCPv4 by name: plain `dhcp` configures IPv6 first,
/// which takes 13 s where no router advertises.
pub(super) const CHAIN: &str = r"#!ipxe
:address
ifconf -c dhcp || goto wait
{% for script in scripts %}
echo Headwater: asking {{ script }}
chain --timeout 3000 --autofree {{ script }}?mac=${mac} ||
{% endfor %}
:wait
echo Headwater: no server answered; trying again in 5 seconds
sleep 5
goto address
";

// Source  QEMU 7.2, docs/system/devices/net.rst and vhost-user.rst; libvirt, formatdomain, "vhost-user interface".
#include "control/api/attach_args.h"

#include <fmt/format.h>

#include <optional>

#include "control/api/message.h"

namespace patchbay::api {
namespace {

constexpr std::size_t memory_digits_max = 8;
constexpr std::uint64_t memory_mib_max = 16 * 1024 * 1024;
constexpr unsigned ring_size = 1024;

bool is_word(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// QEMU ids hold letters, digits, '-', '.', '_' and start with a letter, which the prefix before them gives.
std::string qemu_id(std::string_view name) {
  std::string id;
  for (const char c : name) id += is_word(c) || c == '-' || c == '_' || c == '.' ? c : '-';
  return id;
}

// libvirt's names for devices that a user names hold letters, digits, '-' and '_', and start with "ua-".
std::string libvirt_alias(std::string_view name) {
  std::string alias = "ua-";
  for (const char c : name) alias += is_word(c) || c == '-' || c == '_' ? c : '-';
  return alias;
}

// In QEMU's option lists a comma within a value is written twice.
std::string qemu_value(std::string_view value) {
  std::string doubled;
  for (const char c : value) doubled += c == ',' ? std::string(",,") : std::string(1, c);
  return doubled;
}

std::string shell_word(const std::string& word) {
  bool plain = true;
  for (const char c : word) plain = plain && (is_word(c) || std::string_view("-_./,=:+@").find(c) != std::string::npos);
  if (plain) return word;
  std::string quoted_word = "'";
  for (const char c : word) quoted_word += c == '\'' ? std::string(R"('\'')") : std::string(1, c);
  return quoted_word + "'";
}

std::string xml_value(std::string_view value) {
  std::string escaped;
  for (const char c : value) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '\'':
        escaped += "&apos;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string size_text(std::uint64_t mib) {
  return mib % 1024 == 0 ? fmt::format("{}G", mib / 1024) : fmt::format("{}M", mib);
}

// A comment line must stay one line, whatever the name holds.
std::string comment_text(std::string_view text) {
  std::string line;
  for (const char c : text) line += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return line;
}

std::string qemu_text(const reconcile::VnicView& view, const AttachOptions& options) {
  const bool patchbay_listens = view.desired.connect.empty();
  const std::string id = qemu_id(view.desired.name);
  const std::string size = size_text(options.memory_mib);
  const std::string chardev = fmt::format("socket,id=chr-{},path={},{}", id, qemu_value(view.vhost_socket),
                                          patchbay_listens ? "reconnect=1" : "server=on,wait=off");
  std::string text = fmt::format("# vnic {} on switch {}: add this line to the guest's QEMU command.\n",
                                 comment_text(view.desired.name), comment_text(view.desired.switch_name));
  text += fmt::format("# size={0} must equal the guest's memory: start QEMU with -m {0}, or ask with --memory SIZE.\n",
                      size);
  text += "# A guest with several vnics takes -object and -machine once, and the rest once for each vnic.\n";
  text += "# QEMU 7.2 without KVM crashes on this device's MSI-X: append ,vectors=0 to -device there.\n";
  if (patchbay_listens) text += "# QEMU 9.2 and newer prefer reconnect-ms=1000 to reconnect=1.\n";
  if (view.desired.queues > 1) {
    text +=
        fmt::format("# The guest uses as many of the {} queue pairs as it has CPUs: see -smp.\n", view.desired.queues);
  }
  const std::string multiqueue =
      view.desired.queues > 1 ? fmt::format("mq=on,vectors={}", 2 * view.desired.queues + 2) : "mq=off";
  text += fmt::format(
      "-object memory-backend-memfd,id=mem,size={0},share=on -machine q35,memory-backend=mem "
      "-chardev {1} -netdev vhost-user,id=net-{2},chardev=chr-{2},queues={6} "
      "-device virtio-net-pci,netdev=net-{2},mac={3},rx_queue_size={4},tx_queue_size={4},host_mtu={5},{7},"
      "ctrl_guest_offloads=off\n",
      size, shell_word(chardev), id, view.desired.mac.to_string(), ring_size, view.mtu, view.desired.queues,
      multiqueue);
  return text;
}

// libvirt's own <mtu> is of no use here: libvirt 9.0 looks for an interface of the host to set it on, finds none, and
// does not start the domain. So what the device has to be told beyond libvirt's elements goes past them.
std::string libvirt_text(const reconcile::VnicView& view, const AttachOptions& options) {
  const bool patchbay_listens = view.desired.connect.empty();
  const std::string path = xml_value(view.vhost_socket);
  std::string text = "<!-- Into <domain>: the guest's memory, shared so that Patchbay can reach it. -->\n";
  text += fmt::format("<memory unit='MiB'>{}</memory>\n", options.memory_mib);
  text += "<memoryBacking>\n  <source type='memfd'/>\n  <access mode='shared'/>\n</memoryBacking>\n";
  text += "<!-- Into <devices>: one such element for each vnic. -->\n<interface type='vhostuser'>\n";
  text += fmt::format("  <mac address='{}'/>\n", view.desired.mac.to_string());
  if (patchbay_listens) {
    text += fmt::format(
        "  <source type='unix' path='{}' mode='client'>\n    <reconnect enabled='yes' timeout='1'/>\n  </source>\n",
        path);
  } else {
    text += fmt::format("  <source type='unix' path='{}' mode='server'/>\n", path);
  }
  text += fmt::format(
      "  <model type='virtio'/>\n  <driver queues='{3}' rx_queue_size='{0}' tx_queue_size='{0}'/>\n"
      "  <alias name='{1}'/>\n</interface>\n"
      "<!-- Before </domain>, which begins with <domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' …>;\n"
      "     one qemu:device for each vnic. -->\n"
      "<qemu:override>\n  <qemu:device alias='{1}'>\n    <qemu:frontend>\n"
      "      <qemu:property name='host_mtu' type='unsigned' value='{2}'/>\n"
      "      <qemu:property name='ctrl_guest_offloads' type='bool' value='false'/>\n"
      "    </qemu:frontend>\n  </qemu:device>\n</qemu:override>\n",
      ring_size, libvirt_alias(view.desired.name), view.mtu, view.desired.queues);
  return text;
}

std::optional<std::uint64_t> parse_memory_mib(std::string_view text) {
  if (text.size() < 2 || text.size() > memory_digits_max + 1 || text.front() == '0') return std::nullopt;
  std::uint64_t value = 0;
  for (const char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (text.back() == 'G') value *= 1024;
  if ((text.back() != 'M' && text.back() != 'G') || value > memory_mib_max) return std::nullopt;
  return value;
}

}  // namespace

Result<AttachOptions> parse_attach_options(const std::map<std::string, std::string>& query) {
  AttachOptions options;
  for (const auto& [key, value] : query) {
    if (key == "format") {
      if (value != "qemu" && value != "libvirt") {
        return fail(ErrorCode::invalid, "format: " + in_quotes(value) + " is unknown; give qemu or libvirt");
      }
      if (value == "libvirt") options.format = AttachOptions::Format::libvirt;
    } else if (key == "memory") {
      const auto memory_mib = parse_memory_mib(value);
      if (!memory_mib) {
        return fail(ErrorCode::invalid, "memory: " + in_quotes(value) +
                                            " is not a guest's memory size; give 1M to 16384G, like 256M or 2G");
      }
      options.memory_mib = *memory_mib;
    } else {
      return fail(ErrorCode::invalid, "unknown query parameter " + in_quotes(key) + "; known here: format, memory");
    }
  }
  return options;
}

Result<std::string> attach_args(const reconcile::VnicView& view, const AttachOptions& options) {
  if (view.desired.kind == model::VnicKind::host) {
    return fail(ErrorCode::invalid,
                "vnic " + in_quotes(view.desired.name) +
                    " is a host vnic and takes no guest; use it as a network interface, with ip addr");
  }
  return options.format == AttachOptions::Format::qemu ? qemu_text(view, options) : libvirt_text(view, options);
}

}  // namespace patchbay::api

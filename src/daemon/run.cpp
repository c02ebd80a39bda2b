#include "daemon/run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <csignal>

#include "base/directory_lock.h"
#include "control/api/server.h"
#include "control/host/addresses.h"
#include "control/host/nic_watch.h"
#include "control/host/sharing.h"
#include "control/reconcile/host_service.h"
#include "control/store/sqlite_store.h"
#include "control/vhost_user/endpoint.h"
#include "daemon/process.h"

namespace patchbay::daemon {
namespace {

Result<std::optional<gid_t>> socket_group_of(const Options& options) {
  if (!options.socket_group) return std::nullopt;
  const auto group = find_group(*options.socket_group);
  if (!group) return fail(group.error());
  return std::optional(*group);
}

std::string positions_dir_of(const Options& options) {
  return options.run_dir + "/rings";
}

Result<void> make_directories_of(const Options& options) {
  if (auto ok = make_directories(options.state_dir, 0700); !ok) return ok;
  if (auto ok = make_directories(options.run_dir, 0755); !ok) return ok;
  return make_directories(positions_dir_of(options), 0700);
}

}  // namespace

Result<void> run(const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  for (const MissingCapability& missing : missing_capabilities()) {
    spdlog::warn("without {}: {}; start patchbayd by its systemd unit, or as root", missing.name, missing.loss);
  }
  const auto socket_group = socket_group_of(options);
  if (!socket_group) return fail(socket_group.error());
  if (auto ok = make_directories_of(options); !ok) return ok;

  // Objects below use those above, and go before them.
  boost::asio::io_context loop(1);
  boost::asio::signal_set stop_signals(loop, SIGTERM, SIGINT);
  stop_signals.async_wait([&loop](const boost::system::error_code& error, int) {
    if (!error) loop.stop();
  });
  auto store = store::SqliteStore::open(options.state_dir);
  if (!store) return fail(store.error());
  const auto run_lock = DirectoryLock::take(options.run_dir, "run directory", "--run-dir");
  if (!run_lock) return fail(run_lock.error());
  auto nics = host::NicWatch::create(loop);
  if (!nics) return fail(nics.error());
  const auto host_address = host::first_ipv4_address();
  if (!host_address) return fail(host_address.error());
  auto dataplane = dataplane::Dataplane::create({.worker_cpus = options.worker_cpus,
                                                 .always_poll = options.always_poll,
                                                 .owner = options.state_dir,
                                                 .positions_dir = positions_dir_of(options)});
  if (!dataplane) return fail(dataplane.error());
  const auto make_endpoint = [&loop, &dataplane](vhost_user::EndpointConfig config, std::function<void()> changed) {
    return vhost_user::Endpoint::create(loop, **dataplane, std::move(config), std::move(changed));
  };
  auto sharing = host::Sharing::create(loop);
  if (!sharing) return fail(sharing.error());
  auto service = reconcile::HostService::create(loop, **dataplane, **store, **nics, **sharing, make_endpoint,
                                                {options.run_dir, *socket_group, *host_address});
  if (!service) return fail(service.error());
  const auto vnics = (*service)->list_vnics();
  const auto guests = std::count_if(vnics.begin(), vnics.end(), [](const reconcile::VnicView& vnic) {
    return vnic.desired.kind == model::VnicKind::guest;
  });
  if (const auto shortage = descriptor_shortage(static_cast<std::size_t>(guests), descriptor_limit())) {
    spdlog::warn("{}", *shortage);
  }
  const std::string api_socket = options.run_dir + "/api.sock";
  auto server = api::Server::create(loop, **service, api_socket, *socket_group);
  if (!server) return fail(server.error());

  spdlog::info("ready: the API listens on {}", api_socket);
  notify_ready();
  loop.run();
  spdlog::info("stopping");
  return {};
}

}  // namespace patchbay::daemon

#include "dataplane/virtqueue/guest_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <limits>

#include "base/unique_fd.h"

namespace patchbay::dataplane {
namespace {

UniqueFd memory_file(std::size_t size) {
  UniqueFd fd(memfd_create("guest", MFD_CLOEXEC));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(size)), 0);
  return fd;
}

TEST(GuestMemory, translates_only_what_lies_wholly_in_one_region) {
  const UniqueFd fd = memory_file(0x3000);
  const MemoryRegion regions[] = {{0x10000, 0x1000, 0x7000'0000, 0, fd.get()},
                                  {0x11000, 0x1000, 0x7000'1000, 0x1000, fd.get()}};
  const auto memory = GuestMemory::map(regions);
  ASSERT_TRUE(memory) << memory.error().message;
  const GuestMemory& m = **memory;
  EXPECT_NE(m.translate(0x10000, 1), nullptr);
  EXPECT_NE(m.translate(0x10000, 0x1000), nullptr);
  EXPECT_EQ(m.translate(0x10000, 0x1001), nullptr);
  EXPECT_NE(m.translate(0x10FFF, 1), nullptr);
  EXPECT_EQ(m.translate(0x10FFF, 2), nullptr) << "straddles two regions";
  EXPECT_EQ(m.translate(0xFFFF, 1), nullptr);
  EXPECT_EQ(m.translate(0x12000, 1), nullptr);
  EXPECT_EQ(m.translate(0x10000, std::numeric_limits<std::uint64_t>::max()), nullptr);
  EXPECT_EQ(m.translate(std::numeric_limits<std::uint64_t>::max(), 2), nullptr);
  EXPECT_NE(m.translate_front_end(0x7000'1FFF, 1), nullptr);
  EXPECT_EQ(m.translate_front_end(0x7000'1FFF, 2), nullptr);
  EXPECT_EQ(m.translate_front_end(0x10000, 1), nullptr);
  // The second region starts where its offset in the file says.
  *m.translate(0x11000, 1) = 42;
  std::uint8_t byte = 0;
  ASSERT_EQ(pread(fd.get(), &byte, 1, 0x1000), 1);
  EXPECT_EQ(byte, 42);
}

TEST(GuestMemory, refuses_regions_that_cannot_be_what_they_claim) {
  const UniqueFd fd = memory_file(0x2000);
  const UniqueFd disk(open("/etc/hostname", O_RDONLY | O_CLOEXEC));
  constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
  const struct {
    const char* name;
    MemoryRegion region;
  } cases[] = {
      {"zero size", {0, 0, 0, 0, fd.get()}},
      {"larger than its file", {0, 0x2001, 0, 0, fd.get()}},
      {"beyond its file", {0, 0x1000, 0, 0x1001, fd.get()}},
      {"guest addresses wrap", {top - 0x100, 0x1000, 0, 0, fd.get()}},
      {"front-end addresses wrap", {0, 0x1000, top - 0x100, 0, fd.get()}},
      {"offset and size wrap", {0, 0x1000, 0, top - 0x100, fd.get()}},
      {"no descriptor", {0, 0x1000, 0, 0, -1}},
      {"not memory", {0, 1, 0, 0, disk.get()}},
  };
  for (const auto& test : cases) {
    EXPECT_FALSE(GuestMemory::map({&test.region, 1})) << test.name;
  }
  EXPECT_FALSE(GuestMemory::map({}));
  const std::array<MemoryRegion, memory_regions_max + 1> many{};
  EXPECT_FALSE(GuestMemory::map(many));
}

TEST(GuestMemory, no_guest_has_more_memory_than_twice_its_hosts_whatever_its_files_say) {
  const std::uint64_t limit = GuestMemory::bytes_max();
  ASSERT_GT(limit, 0U);
  const UniqueFd fd = memory_file(limit);  // empty, so it costs nothing
  const std::uint64_t half = limit / 2;
  MemoryRegion regions[] = {{0, half, 0, 0, fd.get()}, {limit, limit - half, limit, 0, fd.get()}};
  EXPECT_TRUE(GuestMemory::map(regions));
  EXPECT_EQ(GuestMemory::bytes_max(), limit) << "and all of it came back";
  ++regions[1].size_bytes;
  const auto refused = GuestMemory::map(regions);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("more than twice the memory of this host"), std::string::npos);
  regions[0].size_bytes = std::numeric_limits<std::uint64_t>::max();
  EXPECT_FALSE(GuestMemory::map(regions)) << "a sum that wraps";
}

TEST(GuestMemory, survives_that_its_file_is_truncated) {
  const UniqueFd fd = memory_file(0x4000);
  const MemoryRegion region = {0, 0x4000, 0, 0, fd.get()};
  const auto memory = GuestMemory::map({&region, 1});
  ASSERT_TRUE(memory);
  volatile std::uint8_t* const byte = (*memory)->translate(0x3000, 1);
  *byte = 7;
  EXPECT_FALSE((*memory)->lost());
  ASSERT_EQ(ftruncate(fd.get(), 0), 0);
  EXPECT_EQ(*byte, 0);
  EXPECT_TRUE((*memory)->lost());
  *byte = 1;  // harmless now
}

}  // namespace
}  // namespace patchbay::dataplane

#include "control/vmq/queue_state.h"

#include <gtest/gtest.h>

namespace patchbay::vmq {
namespace {

constexpr auto no = std::nullopt;
using Next = std::optional<QueueState>;

// The document's table, cell by cell.
struct Row {
  QueueEvent event;
  std::array<Next, all_queue_states.size()> next;  // by state, in the order of all_queue_states
};

constexpr Next undefined = QueueState::undefined;
constexpr Next allocated = QueueState::allocated;
constexpr Next set = QueueState::set;
constexpr Next running = QueueState::running;
constexpr Next paused = QueueState::paused;
constexpr Next stop_dma = QueueState::stop_dma;
constexpr Next freeing = QueueState::freeing;

const std::array table{
    //                                      undefined  allocated  set        running  paused    stop_dma  freeing
    Row{QueueEvent::allocate_queue, {{allocated, no, no, no, no, no, no}}},
    Row{QueueEvent::parameters, {{no, allocated, set, running, paused, no, no}}},
    Row{QueueEvent::set_filter, {{no, set, set, running, running, no, no}}},
    Row{QueueEvent::clear_last_filter, {{no, no, allocated, paused, no, no, no}}},
    Row{QueueEvent::clear_filter, {{no, no, set, running, no, no, no}}},
    Row{QueueEvent::filter_parameters, {{no, no, set, running, no, no, no}}},
    Row{QueueEvent::allocation_complete, {{no, paused, running, no, no, no, no}}},
    Row{QueueEvent::receive_frame, {{no, no, no, running, no, no, no}}},
    Row{QueueEvent::free_queue, {{no, stop_dma, no, no, stop_dma, no, no}}},
    Row{QueueEvent::dma_stopped, {{no, no, no, no, no, freeing, no}}},
    Row{QueueEvent::all_returned, {{no, no, no, no, no, no, undefined}}},
};

TEST(QueueState, each_event_leads_where_the_table_says_and_nowhere_else) {
  ASSERT_EQ(table.size(), all_queue_events.size());
  for (std::size_t e = 0; e < table.size(); ++e) {
    ASSERT_EQ(table[e].event, all_queue_events[e]);
    for (std::size_t s = 0; s < all_queue_states.size(); ++s) {
      const QueueState state = all_queue_states[s];
      SCOPED_TRACE(std::string(to_string(table[e].event)) + " while " + to_string(state));
      EXPECT_EQ(next_state(state, table[e].event), table[e].next[s]);
      const auto moved = advance("eth1#3", state, table[e].event);
      ASSERT_EQ(moved.has_value(), table[e].next[s].has_value());
      if (moved) {
        EXPECT_EQ(*moved, *table[e].next[s]);
        continue;
      }
      EXPECT_EQ(moved.error().code, ErrorCode::invalid);
      const std::string& message = moved.error().message;
      EXPECT_NE(message.find("queue eth1#3"), std::string::npos) << message;
      EXPECT_NE(message.find(to_string(state)), std::string::npos) << message;
      EXPECT_NE(message.find(to_string(table[e].event)), std::string::npos) << message;
    }
  }
}

TEST(QueueState, a_refusal_says_where_the_event_is_possible) {
  EXPECT_EQ(advance("eth1#3", QueueState::running, QueueEvent::free_queue).error().message,
            "queue eth1#3 is running, and free_queue is possible only while it is allocated or paused");
}

}  // namespace
}  // namespace patchbay::vmq

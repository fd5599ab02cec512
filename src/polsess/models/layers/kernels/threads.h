// Work in several threads: those of PyTorch's OpenMP, where it can be found. Between two layers they wait at work, so
// that threads of our own would have to share the processors with them.

#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__linux__)
extern "C" __attribute__((weak)) void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
#endif

namespace {

template <class Work>
struct Team {
  Work& work;
  int64_t parts, units;
  std::atomic<int64_t> next{0};

  void take(int64_t part) { work(part, units * part / parts, units * (part + 1) / parts); }

  static void join(void* given) {  // a team may be smaller than asked for
    auto& team = *static_cast<Team*>(given);
    for (int64_t part = team.next++; part < team.parts; part = team.next++) team.take(part);
  }
};

// Calls work(part, first, last) for ranges of units, each in one of as many threads.
template <class Work>
void in_parts(int64_t parts, int64_t units, Work work) {
  if (units == 0) return;
  Team<Work> team{work, parts, units};
  if (parts <= 1) return team.take(0);
#if defined(__linux__)
  if (GOMP_parallel) return GOMP_parallel(&Team<Work>::join, &team, static_cast<unsigned>(parts), 0);
#endif
  std::vector<std::thread> others;
  for (int64_t part = 1; part < parts; ++part) others.emplace_back(&Team<Work>::join, &team);
  Team<Work>::join(&team);
  for (auto& each : others) each.join();
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
//
// Counters of a C simulation compiled with MIXQ_COUNT: words per stream, iterations per process,
// one "kind name count" line each in the file `counts.txt` of the working directory.
#ifndef MIXQ_CSIM_COUNT_HPP
#define MIXQ_CSIM_COUNT_HPP

#include <cstdio>
#include <cstdlib>
#include <string>

namespace mixq {
namespace csim {

/// Append one line to counts.txt.
inline void record(const char* kind, const std::string& name, long long count) {
  std::FILE* file = std::fopen("counts.txt", "a");
  if (file == nullptr) {
    std::fprintf(stderr, "C simulation: cannot write counts.txt here\n");
    std::_Exit(2);
  }
  std::fprintf(file, "%s %s %lld\n", kind, name.c_str(), count);
  std::fclose(file);
}

/// Iterations of one process, recorded when the program ends.
class IterationCounter {
 public:
  explicit IterationCounter(const char* name) : name_(name) {}
  ~IterationCounter() { record("process", name_, count_); }
  void tick() { ++count_; }

 private:
  const char* name_;
  long long count_ = 0;
};

/// Return the counter of the process configured by C.
template <class C>
IterationCounter& iteration_counter() {
  static IterationCounter counter(C::name());
  return counter;
}

}  // namespace csim
}  // namespace mixq

#endif

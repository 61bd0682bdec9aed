// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for the vendor's stream class in C simulation with a plain C++ compiler: an unbounded
// FIFO that insists on correct use. Synthesis tools bring their own header of this name; put this
// directory on the include path of the C simulation only.
#ifndef MIXQ_CSIM_HLS_STREAM_H
#define MIXQ_CSIM_HLS_STREAM_H

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

#ifdef MIXQ_COUNT
#include "csim/count.hpp"
#endif
#ifdef MIXQ_TAP
#include "csim/tap.hpp"
#endif

namespace hls {

/// FIFO of words. Reading an empty one, or leaving words behind, ends the program with exit code 3:
/// in hardware the first would wait for ever, the second would fill the FIFO.
template <class T>
class stream {
 public:
  explicit stream(const char* name) : name_(name) {}
  stream(const stream&) = delete;
  stream& operator=(const stream&) = delete;

  ~stream() {
#ifdef MIXQ_COUNT
    mixq::csim::record("stream", name_, written_);
#endif
    if (!words_.empty()) fail("still holds words when the accelerator is done");
  }

  bool empty() const { return words_.empty(); }
  std::size_t size() const { return words_.size(); }

  void write(const T& word) {
    words_.push_back(word);
    ++written_;
#ifdef MIXQ_TAP
    tap_.write(name_, word);
#endif
  }

  T read() {
    if (words_.empty()) fail("is empty and was read");
    const T word = words_.front();
    words_.pop_front();
    return word;
  }

 private:
  void fail(const char* what) const {
    std::fprintf(stderr, "C simulation: stream '%s' %s (%zu words left, %lld written)\n",
                 name_.c_str(), what, words_.size(), written_);
    std::fflush(nullptr);
    std::_Exit(3);
  }

  std::string name_;
  std::deque<T> words_;
  long long written_ = 0;
#ifdef MIXQ_TAP
  mixq::csim::Tap tap_;
#endif
};

}  // namespace hls

#endif

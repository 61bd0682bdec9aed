// SPDX-License-Identifier: Apache-2.0
//
// Log of a C simulation compiled with MIXQ_TAP: every stream that carries codes or accumulators
// leaves `<stream>.tap` in the working directory, int64 elements in word order.
#ifndef MIXQ_CSIM_TAP_HPP
#define MIXQ_CSIM_TAP_HPP

#include <cstdio>
#include <cstdlib>
#include <string>

#include <ap_int.h>

namespace mixq {

template <int CHANNELS, int BITS>
struct CodeWord;
template <int COLUMNS, int CHANNELS, int BITS>
struct SumWord;

namespace csim {

/// The file behind one stream. Window words and beats only rearrange what other streams carry, so
/// they are not logged.
class Tap {
 public:
  Tap() = default;
  Tap(const Tap&) = delete;
  Tap& operator=(const Tap&) = delete;
  ~Tap() {
    if (file_ != nullptr) std::fclose(file_);
  }

  template <class T>
  void write(const std::string&, const T&) {}

  template <int CHANNELS, int BITS>
  void write(const std::string& name, const CodeWord<CHANNELS, BITS>& word) {
    for (const auto& code : word.channel) put(name, code.to_int64());
  }

  template <int COLUMNS, int CHANNELS, int BITS>
  void write(const std::string& name, const SumWord<COLUMNS, CHANNELS, BITS>& word) {
    for (const auto& column : word.sum) {
      for (const auto& sum : column) put(name, sum.to_int64());
    }
  }

 private:
  void put(const std::string& name, long long value) {
    if (file_ == nullptr) file_ = std::fopen((name + ".tap").c_str(), "ab");
    if (file_ == nullptr || std::fwrite(&value, sizeof value, 1, file_) != 1) {
      std::fprintf(stderr, "C simulation: cannot write %s.tap here\n", name.c_str());
      std::_Exit(2);
    }
  }

  std::FILE* file_ = nullptr;
};

}  // namespace csim
}  // namespace mixq

#endif

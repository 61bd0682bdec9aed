// SPDX-License-Identifier: Apache-2.0
//
// What travels in the streams between processes. HLS aggregates a word into one vector, first
// element in the low bits, last index fastest (docs/cycles.md gives every layout).
#ifndef MIXQ_WORDS_HPP
#define MIXQ_WORDS_HPP

#include <ap_axi_sdata.h>
#include <ap_int.h>
#include <hls_stream.h>

#include "mixq/iteration.hpp"

namespace mixq {

/// CHANNELS neighbouring activation codes of one column.
template <int CHANNELS, int BITS>
struct CodeWord {
  ap_uint<BITS> channel[CHANNELS];
};

/// The activations that one step of a packed array multiplies.
template <int ROWS, int COLUMNS, int CHANNELS, int BITS>
struct WindowWord {
  ap_uint<BITS> code[ROWS][COLUMNS][CHANNELS];
};

/// The finished accumulators of one column step.
template <int COLUMNS, int CHANNELS, int BITS>
struct SumWord {
  ap_int<BITS> sum[COLUMNS][CHANNELS];
};

/// One AXI-Stream transfer of BITS data bits.
template <int BITS>
using Beat = ap_axiu<BITS, 0, 0, 0>;

/// 64-bit slice of a constant table. Plain integers keep tables in read-only data: `ap_uint`
/// constructors would run, and be compiled, one by one.
using rom_word = unsigned long long;

constexpr int ceil_div(int n, int d) { return (n + d - 1) / d; }

}  // namespace mixq

#endif

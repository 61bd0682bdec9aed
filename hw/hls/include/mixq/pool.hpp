// SPDX-License-Identifier: Apache-2.0
//
// 2x2 maximum pooling of a stream of activation codes.
#ifndef MIXQ_POOL_HPP
#define MIXQ_POOL_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Return the larger code of every channel.
template <int CHANNELS, int BITS>
CodeWord<CHANNELS, BITS> maximum(const CodeWord<CHANNELS, BITS>& a,
                                 const CodeWord<CHANNELS, BITS>& b) {
#pragma HLS INLINE
  CodeWord<CHANNELS, BITS> larger;
#pragma HLS ARRAY_PARTITION variable = larger.channel complete dim = 0
  for (int c = 0; c < CHANNELS; ++c) {
#pragma HLS UNROLL
    larger.channel[c] = a.channel[c] > b.channel[c] ? a.channel[c] : b.channel[c];
  }
  return larger;
}

/// Take the maximum of 2x2 blocks; a left-over last row or column is read and dropped.
///
/// Even rows leave the maxima of their column pairs in half a row of memory, odd rows complete
/// them. Order: row -> channel group -> column.
template <class C>
void pool(hls::stream<CodeWord<C::parallel, C::bits> >& in,
          hls::stream<CodeWord<C::parallel, C::bits> >& out, int frames) {
  constexpr int GROUPS = C::out_channels / C::parallel;
  constexpr int PAIRS = C::width / 2;
  CodeWord<C::parallel, C::bits> upper[GROUPS][PAIRS];
#pragma HLS AGGREGATE variable = upper compact = bit
  // The two accesses to one element are a whole row apart.
#pragma HLS DEPENDENCE variable = upper inter false
  CodeWord<C::parallel, C::bits> left;
#pragma HLS ARRAY_PARTITION variable = left.channel complete dim = 0
  for (int frame = 0; frame < frames; ++frame) {
    for (int row = 0; row < C::height; ++row) {
      for (int group = 0; group < GROUPS; ++group) {
        for (int column = 0; column < C::width; ++column) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
          MIXQ_ITERATION(C);
          const CodeWord<C::parallel, C::bits> word = in.read();
          const int pair = column / 2;
          if (column % 2 == 0) {
            left = word;
          } else if (row % 2 == 0) {
            upper[group][pair] = maximum(left, word);
          } else {
            out.write(maximum(upper[group][pair], maximum(left, word)));
          }
        }
      }
    }
  }
}

}  // namespace mixq

#endif

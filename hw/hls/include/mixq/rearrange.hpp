// SPDX-License-Identifier: Apache-2.0
//
// Streams that part, meet or change their order.
#ifndef MIXQ_REARRANGE_HPP
#define MIXQ_REARRANGE_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Words of one row.
template <class C>
constexpr int row_words(int channels) {
  return C::width * (channels / C::parallel);
}

/// Write every word, of codes or of accumulators, to two streams.
template <class C, class Word>
void fork(hls::stream<Word>& in, hls::stream<Word>& first, hls::stream<Word>& second, int frames) {
  constexpr int WORDS = row_words<C>(C::channels);
  for (int row = 0; row < frames * C::height; ++row) {
    for (int n = 0; n < WORDS; ++n) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
      MIXQ_ITERATION(C);
      const Word word = in.read();
      first.write(word);
      second.write(word);
    }
  }
}

/// Send the words of the first stream, then those of the second, row by row.
template <class C>
void concatenate(hls::stream<CodeWord<C::parallel, C::bits> >& first,
                 hls::stream<CodeWord<C::parallel, C::bits> >& second,
                 hls::stream<CodeWord<C::parallel, C::bits> >& out, int frames) {
  constexpr int FIRST = row_words<C>(C::first_channels);
  constexpr int WORDS = FIRST + row_words<C>(C::second_channels);
  for (int row = 0; row < frames * C::height; ++row) {
    for (int n = 0; n < WORDS; ++n) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
      MIXQ_ITERATION(C);
      if (n < FIRST) {
        out.write(first.read());
      } else {
        out.write(second.read());
      }
    }
  }
}

/// Turn blocks of `block` x `block` pixels into channels, (block dy + dx) channels + c.
///
/// A block of rows is stored while the one before it is sent: output row -> dy -> dx -> channel
/// group -> column.
template <class C>
void space_to_depth(hls::stream<CodeWord<C::parallel, C::bits> >& in,
                    hls::stream<CodeWord<C::parallel, C::bits> >& out, int frames) {
  constexpr int GROUPS = C::channels / C::parallel;
  constexpr int WORDS = C::block * row_words<C>(C::channels);
  CodeWord<C::parallel, C::bits> memory[2][WORDS];
#pragma HLS ARRAY_PARTITION variable = memory complete dim = 1
#pragma HLS AGGREGATE variable = memory compact = bit
  // A load and a store of one memory belong to different blocks of rows.
#pragma HLS DEPENDENCE variable = memory inter false
  for (int turn = 0; turn <= frames * (C::height / C::block); ++turn) {
    int dy = 0, dx = 0, group = 0, column = 0;
    for (int n = 0; n < WORDS; ++n) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
      MIXQ_ITERATION(C);
      if (turn < frames * (C::height / C::block)) memory[turn % 2][n] = in.read();
      if (turn > 0) {
        out.write(memory[(turn + 1) % 2][(dy * GROUPS + group) * C::width + column + dx]);
      }
      column += C::block;
      if (column < C::width) continue;
      column = 0;
      group = group == GROUPS - 1 ? 0 : group + 1;
      if (group > 0) continue;
      dx = dx == C::block - 1 ? 0 : dx + 1;
      if (dx > 0) continue;
      dy = dy == C::block - 1 ? 0 : dy + 1;
    }
  }
}

}  // namespace mixq

#endif

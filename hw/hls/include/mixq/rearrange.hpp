// SPDX-License-Identifier: Apache-2.0
//
// Streams that part, meet or change their order.
#ifndef MIXQ_REARRANGE_HPP
#define MIXQ_REARRANGE_HPP

#include "mixq/window.hpp"

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

/// Add the codes of two streams.
template <class C>
void add_streams(hls::stream<CodeWord<C::parallel, C::first_bits> >& first,
                 hls::stream<CodeWord<C::parallel, C::second_bits> >& second,
                 hls::stream<SumWord<1, C::parallel, C::acc_bits> >& out, int frames) {
  constexpr int WORDS = row_words<C>(C::channels);
  for (int row = 0; row < frames * C::height; ++row) {
    for (int n = 0; n < WORDS; ++n) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
      MIXQ_ITERATION(C);
      const CodeWord<C::parallel, C::first_bits> a = first.read();
      const CodeWord<C::parallel, C::second_bits> b = second.read();
      SumWord<1, C::parallel, C::acc_bits> sums;
      for (int c = 0; c < C::parallel; ++c) {
#pragma HLS UNROLL
        sums.sum[0][c] = a.channel[c] + b.channel[c];
      }
      out.write(sums);
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

/// Sizes that follow from a patch buffer's configuration.
template <class C>
struct PatchShape {
  static constexpr int ROW = C::width * (C::channels / C::parallel);
  static constexpr int WRITES = C::stride * ROW;
  static constexpr int READS = ROW / C::stride * C::kernel * C::kernel;
  static constexpr int LENGTH = WRITES > READS ? WRITES : READS;
  static constexpr int STEPS = ceil_div(C::kernel - C::padding, C::stride) - 1;
  static constexpr int LAG = STEPS > 0 ? STEPS : 0;
  static constexpr int ROWS = C::stride * (LAG + 2) + C::padding;
};

/// Where the next word of a patch buffer goes: row after row.
template <class C>
struct PatchWrite {
  int bank = 0, word = 0;

  void advance() {
#pragma HLS INLINE
    using S = PatchShape<C>;
    word = word == S::ROW - 1 ? 0 : word + 1;
    if (word == 0) bank = bank == S::ROWS - 1 ? 0 : bank + 1;
  }
};

/// What a patch buffer sends next: kernel row -> kernel column -> channel group -> output column.
/// `bank` holds input row stride * row of the output row `row`.
template <class C>
struct PatchRead {
  int ky = 0, kx = 0, group = 0, column = 0, row = 0, bank = 0;

  void advance() {
#pragma HLS INLINE
    using S = PatchShape<C>;
    column += C::stride;
    if (column < C::width) return;
    column = 0;
    group = group == C::channels / C::parallel - 1 ? 0 : group + 1;
    if (group > 0) return;
    kx = kx == C::kernel - 1 ? 0 : kx + 1;
    if (kx > 0) return;
    ky = ky == C::kernel - 1 ? 0 : ky + 1;
    if (ky > 0) return;
    row = row == C::height / C::stride - 1 ? 0 : row + 1;
    bank = bank + C::stride < S::ROWS ? bank + C::stride : bank + C::stride - S::ROWS;
  }
};

/// Send the patches that the steps of a strided convolution see, zero outside the frame.
///
/// Phase j stores `stride` rows and sends the patches of output row j - LAG - 1; both are spread
/// evenly over a phase.
template <class C>
void patches(hls::stream<CodeWord<C::parallel, C::bits> >& in,
             hls::stream<CodeWord<C::parallel, C::bits> >& out, int frames) {
  using S = PatchShape<C>;
  CodeWord<C::parallel, C::bits> memory[S::ROWS][S::ROW];
#pragma HLS AGGREGATE variable = memory compact = bit
  PatchWrite<C> write;
  PatchRead<C> read;
  int write_credit = 0, read_credit = 0;
  for (int phase = 0; phase <= frames * (C::height / C::stride) + S::LAG; ++phase) {
    for (int t = 0; t < S::LENGTH; ++t) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
      MIXQ_ITERATION(C);
      const bool stores = take_turn<S::WRITES, S::LENGTH>(write_credit);
      const bool sends = take_turn<S::READS, S::LENGTH>(read_credit);
      if (stores && phase < frames * (C::height / C::stride)) {
        memory[write.bank][write.word] = in.read();
        write.advance();
      }
      if (sends && phase > S::LAG) {
        const int y = C::stride * read.row + read.ky - C::padding;
        const int x = read.column + read.kx - C::padding;
        const bool inside = y >= 0 && y < C::height && x >= 0 && x < C::width;
        const int turned = read.bank + read.ky - C::padding;
        const int above = turned < 0 ? turned + S::ROWS : turned;
        const int bank = above < S::ROWS ? above : above - S::ROWS;
        const CodeWord<C::parallel, C::bits> kept =
            memory[inside ? bank : 0][inside ? read.group * C::width + x : 0];
        CodeWord<C::parallel, C::bits> word;
        for (int c = 0; c < C::parallel; ++c) {
#pragma HLS UNROLL
          word.channel[c] = inside ? kept.channel[c] : ap_uint<C::bits>(0);
        }
        out.write(word);
        read.advance();
      }
    }
  }
}

}  // namespace mixq

#endif

// SPDX-License-Identifier: Apache-2.0
//
// Line buffer of one convolution: rows in, zero-padded windows out, once per output group.
#ifndef MIXQ_WINDOW_HPP
#define MIXQ_WINDOW_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Sizes that follow from a window's configuration.
///
/// A column is stored in atoms of `ATOM` channels, the smaller of what one word brings
/// (`IN_ATOMS` atoms) and what one step takes (`OUT_ATOMS`); one of the two counts is 1. An atom of
/// column c lives in memory [row bank][c mod columns][lane], so that one step reads, and one word
/// writes, every memory at most once.
template <class C>
struct WindowShape {
  static constexpr int BANKS = C::kernel + 1;
  static constexpr int ATOM = C::in_parallel < C::simd ? C::in_parallel : C::simd;
  static constexpr int IN_ATOMS = C::in_parallel / ATOM;
  static constexpr int OUT_ATOMS = C::simd / ATOM;
  static constexpr int LANES = IN_ATOMS * OUT_ATOMS;
  static constexpr int BLOCKS = ceil_div(C::width, C::columns);
  static constexpr int DEPTH = C::channels / (ATOM * LANES) * BLOCKS;
  static constexpr int ROW_GROUPS = C::kernel / C::kernel_rows;
  static constexpr int WRITES = C::width * (C::channels / C::in_parallel);
  static constexpr int READS =
      C::groups_out * C::column_steps * C::word_steps * ROW_GROUPS *
      (C::depthwise ? 1 : C::channels / C::simd);
  static constexpr int LENGTH = WRITES > READS ? WRITES : READS;
  // A load and a store of one place lie further apart than the stages between them can turn round.
  static constexpr bool FAR = C::reuse_iterations >= 8;
};

/// The row memories: [row bank][column mod columns][lane][address][channel of the atom].
template <class C>
using Lines = ap_uint<C::bits>[WindowShape<C>::BANKS][C::columns][WindowShape<C>::LANES]
                              [WindowShape<C>::DEPTH][WindowShape<C>::ATOM];

/// Where the next word goes: channel group after channel group, each column by column.
template <class C>
struct WritePosition {
  int column = 0, slot = 0, block = 0, lane = 0, base = 0;

  void advance() {
#pragma HLS INLINE
    using S = WindowShape<C>;
    slot = slot == C::columns - 1 ? 0 : slot + 1;
    block = slot == 0 ? block + 1 : block;
    if (++column < C::width) return;
    column = slot = block = 0;
    lane = lane == S::OUT_ATOMS - 1 ? 0 : lane + 1;
    if (lane > 0) return;
    base = base == S::DEPTH - S::BLOCKS ? 0 : base + S::BLOCKS;
  }
};

/// What the next step reads: column step -> word step -> kernel row group -> input channel group;
/// depthwise: channel group -> column step -> word step -> kernel row group.
template <class C>
struct ReadPosition {
  int step = 0, column = 0, word = 0, row = 0, lane = 0, base = 0;

  void advance() {
#pragma HLS INLINE
    if (C::depthwise) {
      if (next_rows()) next_channels();
    } else {
      if (next_channels()) next_rows();
    }
  }

  /// Go to the next channel group; return true if it is the first again.
  bool next_channels() {
#pragma HLS INLINE
    using S = WindowShape<C>;
    lane = lane == S::IN_ATOMS - 1 ? 0 : lane + 1;
    if (lane > 0) return false;
    base = base == S::DEPTH - S::BLOCKS ? 0 : base + S::BLOCKS;
    return base == 0;
  }

  /// Go to the next kernel rows, word step, column step; return true if all are the first again.
  bool next_rows() {
#pragma HLS INLINE
    row = row == C::kernel - C::kernel_rows ? 0 : row + C::kernel_rows;
    if (row > 0) return false;
    word = word == C::word_steps - 1 ? 0 : word + 1;
    if (word > 0) return false;
    step = step == C::column_steps - 1 ? 0 : step + 1;
    column = step == 0 ? 0 : column + C::columns;
    return step == 0;
  }
};

/// Return true in TURNS of LENGTH calls, spread evenly.
template <int TURNS, int LENGTH>
bool take_turn(int& credit) {
#pragma HLS INLINE
  credit += TURNS;
  const bool due = credit >= LENGTH;
  credit = due ? credit - LENGTH : credit;
  return due;
}

/// Write one word into row bank `bank`.
template <class C>
void store(Lines<C>& lines, const CodeWord<C::in_parallel, C::bits>& word, int bank,
           const WritePosition<C>& at) {
#pragma HLS INLINE
  using S = WindowShape<C>;
  for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
    if (S::OUT_ATOMS > 1 && lane != at.lane) continue;
    for (int c = 0; c < S::ATOM; ++c) {
#pragma HLS UNROLL
      lines[bank][at.slot][lane][at.base + at.block][c] =
          word.channel[S::IN_ATOMS > 1 ? lane * S::ATOM + c : c];
    }
  }
}

/// Read the window word at `at` for the output row `row` of a frame; `oldest` is the bank that
/// holds row `row` - padding. Rows and columns outside the frame read as zero.
template <class C>
WindowWord<C::kernel_rows, C::columns, C::simd, C::bits> load(const Lines<C>& lines, int row,
                                                              int oldest,
                                                              const ReadPosition<C>& at) {
#pragma HLS INLINE
  using S = WindowShape<C>;
  WindowWord<C::kernel_rows, C::columns, C::simd, C::bits> word;
#pragma HLS ARRAY_PARTITION variable = word.code complete dim = 0
  for (int i = 0; i < C::columns; ++i) {
#pragma HLS UNROLL
    // padding * columns keeps both operands positive: the quotient must round down
    const int shifted = i - C::padding + C::padding * C::columns;
    const int slot = shifted % C::columns;
    const int block = at.step + shifted / C::columns - C::padding;
    const int column = at.column + i - C::padding;
    const bool column_inside = column >= 0 && column < C::width;
    const int address = at.base + (column_inside ? block : 0);
    ap_uint<C::bits> fetched[S::BANKS][S::LANES][S::ATOM];
#pragma HLS ARRAY_PARTITION variable = fetched complete dim = 0
    for (int bank = 0; bank < S::BANKS; ++bank) {
#pragma HLS UNROLL
      for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
        for (int c = 0; c < S::ATOM; ++c) {
#pragma HLS UNROLL
          fetched[bank][lane][c] = lines[bank][slot][lane][address][c];
        }
      }
    }
    for (int r = 0; r < C::kernel_rows; ++r) {
#pragma HLS UNROLL
      const int image_row = row - C::padding + at.row + r;
      const bool inside = column_inside && image_row >= 0 && image_row < C::height;
      const int turned = oldest + at.row + r;
      const int bank = turned < S::BANKS ? turned : turned - S::BANKS;
      for (int c = 0; c < C::simd; ++c) {
#pragma HLS UNROLL
        const int lane = S::IN_ATOMS > 1 ? at.lane : c / S::ATOM;
        const ap_uint<C::bits> code = fetched[bank][lane][c % S::ATOM];
        word.code[r][i][c] = inside ? code : ap_uint<C::bits>(0);
      }
    }
  }
  return word;
}

/// Where a window stands between two iterations.
template <class C>
struct WindowState {
  WritePosition<C> write;
  ReadPosition<C> read;
  int write_credit = 0, read_credit = 0;
  int bank = 0, row = 0;  // bank that is written, output row that is read
};

/// Run iteration `t` of phase `phase`.
template <class C>
void window_iteration(Lines<C>& lines, WindowState<C>& at,
                      hls::stream<CodeWord<C::in_parallel, C::bits> >& in,
                      hls::stream<WindowWord<C::kernel_rows, C::columns, C::simd, C::bits> >& out,
                      int phase, int t, int frames) {
#pragma HLS INLINE
  using S = WindowShape<C>;
  const bool writes = take_turn<S::WRITES, S::LENGTH>(at.write_credit);
  const bool reads = take_turn<S::READS, S::LENGTH>(at.read_credit);
  const int next = at.bank == S::BANKS - 1 ? 0 : at.bank + 1;
  if (writes && phase < frames * C::height) {
    store<C>(lines, in.read(), at.bank, at.write);
    at.write.advance();
  }
  const bool started = phase > C::padding;
  if (started && reads) {
    out.write(load<C>(lines, at.row, next, at.read));
    at.read.advance();
  }
  if (t == S::LENGTH - 1) {
    at.bank = next;
    at.row = !started || at.row == C::height - 1 ? 0 : at.row + 1;
  }
}

/// Store rows in a ring of kernel + 1 banks while sending the windows of the row before last.
///
/// Phase j writes row j (counted over all frames) and sends the windows of row j - padding - 1.
/// Both are spread evenly over a phase, so that neither side waits for a burst of the other; the
/// whole row is read once per output group and word step; a depthwise output group reads its own
/// channels only. Order: output group -> column step -> word step -> kernel row group -> channel
/// group.
template <class C>
void window(hls::stream<CodeWord<C::in_parallel, C::bits> >& in,
            hls::stream<WindowWord<C::kernel_rows, C::columns, C::simd, C::bits> >& out,
            int frames) {
  using S = WindowShape<C>;
  Lines<C> lines;
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 1
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 2
#pragma HLS ARRAY_PARTITION variable = lines complete dim = 3
#pragma HLS ARRAY_RESHAPE variable = lines complete dim = 5
  WindowState<C> state;
  if (S::FAR) {
    for (int phase = 0; phase <= frames * C::height + C::padding; ++phase) {
      for (int t = 0; t < S::LENGTH; ++t) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
#pragma HLS DEPENDENCE variable = lines inter false
        MIXQ_ITERATION(C);
        window_iteration<C>(lines, state, in, out, phase, t, frames);
      }
    }
  } else {  // rows so short that the scheduler has to keep loads and stores in order
    for (int phase = 0; phase <= frames * C::height + C::padding; ++phase) {
      for (int t = 0; t < S::LENGTH; ++t) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
        MIXQ_ITERATION(C);
        window_iteration<C>(lines, state, in, out, phase, t, frames);
      }
    }
  }
}

}  // namespace mixq

#endif

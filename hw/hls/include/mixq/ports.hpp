// SPDX-License-Identifier: Apache-2.0
//
// AXI-Stream ports: image beats -> pixels, accumulators of the head -> 32-bit integers.
#ifndef MIXQ_PORTS_HPP
#define MIXQ_PORTS_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Unpack image beats into one word of all channels per pixel.
///
/// Pixels of `pixel_bits` bits lie without gaps, channel 0 in the low bits, row by row; a frame
/// starts on a fresh beat. The top `bits` bits of every pixel go on. Needs
/// channels * pixel_bits <= port_bits.
template <class C>
void input_port(hls::stream<Beat<C::port_bits> >& in,
                hls::stream<CodeWord<C::channels, C::bits> >& out, int frames) {
  constexpr int COLUMN_BITS = C::channels * C::pixel_bits;
  constexpr int LAST = C::height * C::width - 1;
  using Buffer = ap_uint<2 * C::port_bits>;
  Buffer buffer = 0;
  int filled = 0;
  for (int frame = 0; frame < frames; ++frame) {
    for (int i = 0; i <= LAST; ++i) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
      MIXQ_ITERATION(C);
      if (filled < COLUMN_BITS) {
        buffer |= Buffer(in.read().data) << filled;
        filled += C::port_bits;
      }
      CodeWord<C::channels, C::bits> word;
#pragma HLS ARRAY_PARTITION variable = word.channel complete dim = 0
      for (int c = 0; c < C::channels; ++c) {
#pragma HLS UNROLL
        const int top = (c + 1) * C::pixel_bits - 1;
        word.channel[c] = buffer.range(top, top - C::bits + 1);
      }
      out.write(word);
      buffer = i == LAST ? Buffer(0) : Buffer(buffer >> COLUMN_BITS);
      filled = i == LAST ? 0 : filled - COLUMN_BITS;
    }
  }
}

/// Return a beat that carries VALUES 32-bit integers, the first in the low bits.
template <int BITS, int VALUES>
Beat<BITS> make_beat(const ap_int<32> (&value)[VALUES], bool last) {
#pragma HLS INLINE
  Beat<BITS> beat;
  beat.data = 0;
  for (int v = 0; v < VALUES; ++v) {
#pragma HLS UNROLL
    beat.data.range(32 * v + 31, 32 * v) = value[v].range(31, 0);
  }
  beat.keep = -1;
  beat.strb = -1;
  beat.last = last;
  return beat;
}

/// Add the bias to the accumulators of the head and send `values_per_beat` of them a cycle.
///
/// Order: row -> channel group -> column -> channel. Columns that exist only because of padding are
/// dropped; `last` marks the final beat of every frame. `bias[v][n]` belongs to channel
/// n * values_per_beat + v.
template <class C>
void output_port(
    hls::stream<SumWord<C::columns, C::out_parallel, C::acc_bits> >& in,
    hls::stream<Beat<C::port_bits> >& out,
    const int (&bias)[C::values_per_beat][C::out_channels / C::values_per_beat], int frames) {
#pragma HLS ARRAY_PARTITION variable = bias complete dim = 1
  constexpr int GROUPS = C::out_channels / C::out_parallel;
  constexpr int PARTS = C::out_parallel / C::values_per_beat;
  constexpr int FIRST = C::kernel - 1;
  constexpr int LAST = FIRST + C::width - 1;
  SumWord<C::columns, C::out_parallel, C::acc_bits> word;
#pragma HLS ARRAY_PARTITION variable = word.sum complete dim = 0
  for (int frame = 0; frame < frames; ++frame) {
    for (int row = 0; row < C::height; ++row) {
      for (int group = 0; group < GROUPS; ++group) {
        for (int step = 0; step < C::column_steps; ++step) {
          for (int i = 0; i < C::columns; ++i) {
            for (int part = 0; part < PARTS; ++part) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
              MIXQ_ITERATION(C);
              if (i == 0 && part == 0) word = in.read();
              ap_int<32> value[C::values_per_beat];
#pragma HLS ARRAY_PARTITION variable = value complete dim = 0
              for (int v = 0; v < C::values_per_beat; ++v) {
#pragma HLS UNROLL
                value[v] = word.sum[i][part * C::values_per_beat + v] +
                           bias[v][group * PARTS + part];
              }
              const int column = step * C::columns + i;
              const bool last = row == C::height - 1 && group == GROUPS - 1 && column == LAST &&
                                part == PARTS - 1;
              if (column >= FIRST && column <= LAST) {
                out.write(make_beat<C::port_bits>(value, last));
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace mixq

#endif

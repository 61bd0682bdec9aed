// SPDX-License-Identifier: Apache-2.0
//
// Accumulators -> unsigned activation codes, rounding half up.
#ifndef MIXQ_REQUANTISE_HPP
#define MIXQ_REQUANTISE_HPP

#include "mixq/words.hpp"

namespace mixq {

/// Return clip((acc * mul + bias) >> shift, 0, 2^bits - 1).
///
/// `bias` already holds the rounding half and the scaled bias of the convolution. `mul` may be
/// negative. `sum_bits` bits hold every acc * mul + bias.
template <class C>
ap_uint<C::bits> requantise_one(const ap_int<C::acc_bits>& acc, const ap_int<C::mul_bits>& mul,
                                const ap_int<C::bias_bits>& bias) {
#pragma HLS INLINE
  const ap_int<C::acc_bits + C::mul_bits> product = acc * mul;
#pragma HLS BIND_OP variable = product op = mul impl = dsp
  const ap_int<C::sum_bits> sum = product + bias;
  const ap_int<C::sum_bits> code = sum >> C::shift;
  constexpr int MAX = (1 << C::bits) - 1;
  return code < 0 ? 0 : code > MAX ? MAX : int(code);
}

/// Requantise `lanes` accumulators a cycle and join the codes of one column to a word.
///
/// Order: row -> channel group -> column -> lane group. Columns that exist only because of padding
/// are dropped. `mul[lane][n]`, `bias[lane][n]` belong to channel n * lanes + lane.
template <class C>
void requantise(hls::stream<SumWord<C::columns, C::out_parallel, C::acc_bits> >& in,
                hls::stream<CodeWord<C::out_parallel, C::bits> >& out,
                const long long (&mul)[C::lanes][C::out_channels / C::lanes],
                const long long (&bias)[C::lanes][C::out_channels / C::lanes], int frames) {
#pragma HLS ARRAY_PARTITION variable = mul complete dim = 1
#pragma HLS ARRAY_PARTITION variable = bias complete dim = 1
  constexpr int GROUPS = C::out_channels / C::out_parallel;
  constexpr int PARTS = C::out_parallel / C::lanes;
  constexpr int FIRST = C::kernel - 1;
  constexpr int LAST = FIRST + C::width - 1;
  SumWord<C::columns, C::out_parallel, C::acc_bits> sums;
#pragma HLS ARRAY_PARTITION variable = sums.sum complete dim = 0
  CodeWord<C::out_parallel, C::bits> codes;
#pragma HLS ARRAY_PARTITION variable = codes.channel complete dim = 0
  for (int row = 0; row < frames * C::height; ++row) {
    for (int group = 0; group < GROUPS; ++group) {
      for (int step = 0; step < C::column_steps; ++step) {
        for (int i = 0; i < C::columns; ++i) {
          for (int part = 0; part < PARTS; ++part) {
#pragma HLS LOOP_FLATTEN
#pragma HLS PIPELINE II = 1
            MIXQ_ITERATION(C);
            if (i == 0 && part == 0) sums = in.read();
            for (int lane = 0; lane < C::lanes; ++lane) {
#pragma HLS UNROLL
              const int n = group * PARTS + part, channel = part * C::lanes + lane;
              codes.channel[channel] =
                  requantise_one<C>(sums.sum[i][channel], mul[lane][n], bias[lane][n]);
            }
            const int column = step * C::columns + i;
            if (part == PARTS - 1 && column >= FIRST && column <= LAST) out.write(codes);
          }
        }
      }
    }
  }
}

}  // namespace mixq

#endif

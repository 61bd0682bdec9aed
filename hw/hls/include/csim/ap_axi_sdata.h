// SPDX-License-Identifier: Apache-2.0
//
// Stand-in for the vendor's AXI-Stream transfer in C simulation with a plain C++ compiler.
#ifndef MIXQ_CSIM_AP_AXI_SDATA_H
#define MIXQ_CSIM_AP_AXI_SDATA_H

#include <ap_int.h>

/// One transfer without user, id and destination signals.
template <int DATA, int USER, int ID, int DEST>
struct ap_axiu {
  static_assert(USER == 0 && ID == 0 && DEST == 0, "this stand-in carries data, keep, strb, last");
  ap_uint<DATA> data;
  ap_uint<DATA / 8> keep;
  ap_uint<DATA / 8> strb;
  ap_uint<1> last;
};

#endif

// SPDX-License-Identifier: Apache-2.0
//
// Test bench of every generated accelerator: DMA buffers in, DMA buffers out.
#ifndef MIXQ_CSIM_TESTBENCH_HPP
#define MIXQ_CSIM_TESTBENCH_HPP

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "mixq/words.hpp"

namespace mixq {
namespace csim {

using Bytes = std::vector<unsigned char>;

/// End the program with exit code 2 (a file or an argument is wrong).
inline void refuse(const char* what, const char* which) {
  std::fprintf(stderr, "test bench: %s: %s\n", what, which);
  std::exit(2);
}

inline Bytes read_file(const char* path) {
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) refuse("cannot read", path);
  Bytes bytes;
  unsigned char block[1 << 16];
  for (std::size_t n; (n = std::fread(block, 1, sizeof block, file)) > 0;) {
    bytes.insert(bytes.end(), block, block + n);
  }
  std::fclose(file);
  return bytes;
}

inline void write_file(const char* path, const Bytes& bytes) {
  std::FILE* file = std::fopen(path, "wb");
  if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() ||
      std::fclose(file) != 0) {
    refuse("cannot write", path);
  }
}

/// Report the first byte in which two results differ; return the exit code, 0 or 1.
inline int compare(const Bytes& got, const Bytes& expected) {
  if (got.size() != expected.size()) {
    std::fprintf(stderr, "test bench: %zu bytes came out, %zu are expected\n", got.size(),
                 expected.size());
    return 1;
  }
  for (std::size_t i = 0; i < got.size(); i += 4) {
    int value = 0, wanted = 0;
    std::memcpy(&value, &got[i], 4);
    std::memcpy(&wanted, &expected[i], 4);
    if (value != wanted) {
      std::fprintf(stderr, "test bench: result %zu is %d, expected %d\n", i / 4, value, wanted);
      return 1;
    }
  }
  std::printf("test bench: %zu results equal\n", got.size() / 4);
  return 0;
}

/// Run `frames` frames through the accelerator: beats from `in`, beats appended to `out`.
template <int BITS, class Top>
void run_frames(Top top, const unsigned char* in, long in_beats, long out_beats, int frames,
                Bytes& out) {
  hls::stream<Beat<BITS> > image_in("image_in"), result_out("result_out");
  for (long i = 0; i < frames * in_beats; ++i) {
    Beat<BITS> beat;
    for (int b = 0; b < BITS / 8; ++b) beat.data.range(8 * b + 7, 8 * b) = *in++;
    beat.keep = -1;
    beat.strb = -1;
    beat.last = (i + 1) % in_beats == 0;
    image_in.write(beat);
  }
  top(image_in, result_out, frames);
  for (long i = 0; i < frames * out_beats; ++i) {
    const Beat<BITS> beat = result_out.read();
    if (bool(beat.last) != ((i + 1) % out_beats == 0)) {
      std::fprintf(stderr, "test bench: wrong `last` flag on beat %ld\n", i);
      std::exit(1);
    }
    for (int b = 0; b < BITS / 8; ++b) {
      out.push_back((unsigned char)beat.data.range(8 * b + 7, 8 * b).to_uint());
    }
  }
}

/// Test bench: `check IN EXPECTED [frames per call]` or `write IN OUT [frames per call]`.
///
/// Files are DMA buffers: all beats of all frames, little endian. Exit code 0: equal or written;
/// 1: wrong results; 2: bad files or arguments; 3: a stream was used wrongly.
template <int BITS, class Top>
int testbench(int argc, char** argv, Top top, long in_beats, long out_beats) {
  if (argc < 4) refuse("usage", "check|write IN EXPECTED|OUT [frames per call]");
  const Bytes in = read_file(argv[2]);
  const long frame_bytes = in_beats * (BITS / 8);
  if (in.empty() || in.size() % frame_bytes != 0) refuse("holds no whole frames", argv[2]);
  const int frames = int(in.size() / frame_bytes);
  const int per_call = argc > 4 ? std::atoi(argv[4]) : frames;
  if (per_call < 1) refuse("frames per call must be at least 1", argv[4]);
  Bytes out;
  for (int done = 0; done < frames; done += per_call) {
    const int now = frames - done < per_call ? frames - done : per_call;
    run_frames<BITS>(top, in.data() + done * frame_bytes, in_beats, out_beats, now, out);
  }
  if (std::strcmp(argv[1], "check") == 0) return compare(out, read_file(argv[3]));
  if (std::strcmp(argv[1], "write") != 0) refuse("unknown command", argv[1]);
  write_file(argv[3], out);
  return 0;
}

}  // namespace csim
}  // namespace mixq

#endif

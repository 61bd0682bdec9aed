# SPDX-License-Identifier: Apache-2.0
#
# Vitis HLS flow, sourced by run_hls.tcl, which sets: project (folder of the emitted files), top,
# part, clock_ns, steps (any of csim, csynth, cosim, export).

set flags "-std=c++14 -I[file join $project include]"

open_project -reset hls_project
set_top $top
add_files [file join $project src top.cpp] -cflags $flags
add_files -tb [file join $project tb testbench.cpp] -cflags $flags
open_solution -reset solution -flow_target vivado
set_part $part
create_clock -period $clock_ns

set golden_in [file join $project tb golden_in.bin]
set golden_out [file join $project tb golden_out.bin]
set arguments "check $golden_in $golden_out"

foreach step $steps {
  switch $step {
    csim { csim_design -O -argv $arguments }
    csynth { csynth_design }
    cosim { cosim_design -O -rtl verilog -argv $arguments }
    export { export_design -format ip_catalog }
    default { error "unknown step '$step'; steps are csim, csynth, cosim, export" }
  }
}
exit

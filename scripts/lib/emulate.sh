# Running the C++ tests under an emulator. Sourced, after setup.sh, by bash scripts that set -euo pipefail.

failures=()
export GEMLET_EMULATED=1 # what an emulator cannot do is skipped, in a line that says so

# These read hundreds of megabytes of made-up files: minutes natively, hours here, and nothing in them depends on the CPU.
too_long_to_emulate='^(test_gguf_hostile)$'

# What tests that scale are given: these 20,000 operations take half an hour here.
declare -A shorter=([test_session_operations]=100)

# emulate FOLDER TABLE PATTERN EMULATOR...: runs the test programs in FOLDER whose names match PATTERN, as many at a time
# as there are cores, and checks that TABLE's kernels were chosen.
emulate() {
  local folder=$1 table=$2 pattern=$3 results program name
  shift 3
  say "$*"
  results=$(mktemp -d)
  for program in "$folder"/test_*; do
    name=$(basename "$program")
    if [ ! -x "$program" ] || [ -d "$program" ] || [[ ! $name =~ $pattern ]] || [[ $name =~ $too_long_to_emulate ]]; then
      continue
    fi
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
    # shellcheck disable=SC2086
    emulate_one "$results/$name" "$@" "$program" ${shorter[$name]:-} &
  done
  wait
  for name in $(cd "$results" && ls | grep -v '\.'); do
    if [ -e "$results/$name.passed" ]; then
      printf '%-28s %5d s  %s\n' "$name" "$(<"$results/$name.passed")" "$(tail -n 1 "$results/$name")"
    else
      cat "$results/$name"
      failures+=("$name under $*")
    fi
  done
  grep -q "best: $table\$" "$results/test_kernels" || failures+=("$* did not choose the kernels $table")
  rm -r "$results"
}

# emulate_one RESULT COMMAND...: its output into RESULT, and its seconds into RESULT.passed if it succeeds.
emulate_one() {
  local result=$1 start=$SECONDS
  shift
  "$@" >"$result" 2>&1 || return 0
  echo $((SECONDS - start)) >"$result.passed"
}

# report: what failed; the exit code of the last command is that of the script.
report() {
  [ ${#failures[@]} -eq 0 ] || printf 'FAILED: %s\n' "${failures[@]}"
  [ ${#failures[@]} -eq 0 ]
}

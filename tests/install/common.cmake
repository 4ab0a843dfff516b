# What the scripts of this folder share.
cmake_minimum_required(VERSION 3.24)

# run(OUTPUT COMMAND...): runs it, and fails with all that it printed if it fails.
function(run output)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\nfailed (${result}):\n${out}${err}")
  endif()
  set(${output} "${out}" PARENT_SCOPE)
endfunction()

# expect(TEXT PART): fails unless PART is in TEXT.
function(expect text part)
  string(FIND "${text}" "${part}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "expected \"${part}\" in\n${text}")
  endif()
endfunction()

# talk(PROGRAM): a conversation of two turns with nano, and two calls that have to fail.
function(talk program)
  file(WRITE ${WORK}/turns.txt "What is the capital of Portugal?\nWhat is the capital of France?\n")
  execute_process(COMMAND ${program} ${MODEL} INPUT_FILE ${WORK}/turns.txt OUTPUT_VARIABLE out ERROR_VARIABLE err
                  RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${program} failed (${result}):\n${out}${err}")
  endif()
  expect("${out}" "The capital of Portugal is Lisbon.\n")
  expect("${out}" "The capital of France is Paris.\n")
  if(NOT out MATCHES "tokens, 0 of the prompt's [0-9]+ reused.*tokens, [1-9][0-9]+ of the prompt's [0-9]+ reused")
    message(FATAL_ERROR "expected the second turn to reuse what the first computed:\n${out}")
  endif()

  execute_process(COMMAND ${program} ${WORK}/missing.gguf OUTPUT_QUIET ERROR_VARIABLE err RESULT_VARIABLE result)
  if(NOT result EQUAL 1)
    message(FATAL_ERROR "expected exit code 1 for a missing model, found ${result}")
  endif()
  expect("${err}" "missing.gguf")
  execute_process(COMMAND ${program} OUTPUT_QUIET ERROR_VARIABLE err RESULT_VARIABLE result)
  if(NOT result EQUAL 2)
    message(FATAL_ERROR "expected exit code 2 without a model, found ${result}")
  endif()
  expect("${err}" "usage: ")
endfunction()

# see(PROGRAM): a question about a picture and a sound to a tiny model, and calls that have to fail.
function(see program)
  set(ask ${program} ${MEDIA}/model.gguf ${MEDIA}/mmproj.gguf)
  execute_process(COMMAND ${ask} hello ${MEDIA}/picture.ppm ${MEDIA}/sound.wav OUTPUT_VARIABLE out ERROR_VARIABLE err
                  RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${program} failed (${result}):\n${out}${err}")
  endif()
  if(NOT out MATCHES "\\[[0-9]+ tokens to a prompt of ([0-9]+)\\]" OR NOT CMAKE_MATCH_1 GREATER 446) # 257 + 189
    message(FATAL_ERROR "expected a prompt with a picture and a sound in it:\n${out}")
  endif()
  expect("${err}" "picture.ppm: 100 %")
  expect("${err}" "sound.wav: 100 %")

  foreach(file IN ITEMS missing.ppm mmproj.gguf)
    execute_process(COMMAND ${ask} hello ${MEDIA}/${file} OUTPUT_QUIET ERROR_VARIABLE err RESULT_VARIABLE result)
    if(NOT result EQUAL 1)
      message(FATAL_ERROR "expected exit code 1 for ${file}, found ${result}")
    endif()
    expect("${err}" "${file}: expected a PPM picture or a WAV sound")
  endforeach()
  execute_process(COMMAND ${ask} hello OUTPUT_QUIET ERROR_VARIABLE err RESULT_VARIABLE result)
  if(NOT result EQUAL 2)
    message(FATAL_ERROR "expected exit code 2 without a file, found ${result}")
  endif()
  expect("${err}" "usage: ")
endfunction()

if(WORK)
  file(REMOVE_RECURSE ${WORK})
  file(MAKE_DIRECTORY ${WORK})
endif()

"""The engines that make objectives cheap: WARP sampling, phrase automata, large vocabularies."""

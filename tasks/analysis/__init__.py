"""One record, analysed: episodes, burden, and the pages that show them."""

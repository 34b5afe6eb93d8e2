"""Is the finetuned model any good? Forecasts on the test span, scored beside rivals, one number per date."""
